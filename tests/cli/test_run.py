"""`kzoo run`: texts to answers, from a run or a bundle."""
import io
import json
import sys

import pytest

from kzoo.cli import main, run
from kzoo.tasks.options import GenerationOptions


class Model:
    """A live model or a session: answers a text with its reverse."""
    task = "text-generation"

    def __init__(self):
        self.options = None

    def generate(self, texts, **options):
        self.options = options
        return [text[::-1] for text in texts]


@pytest.fixture
def model(replace):
    model = Model()
    replace("load", model)
    return model


def test_each_answer_is_a_line(model, tmp_path, capsys):
    assert main(["run", str(tmp_path), "abc", "de"]) == 0
    assert capsys.readouterr().out == "cba\ned\n"
    assert model.options == {}


def test_answers_as_json(model, tmp_path, capsys):
    main(["run", str(tmp_path), "abc", "--json"])
    assert json.loads(capsys.readouterr().out) == [{"text": "abc", "answer": "cba"}]


def test_options_are_passed_by_their_name(model, tmp_path):
    words = ["--max-new-tokens=7", "--min-new-tokens=2", "--do-sample", "--temperature=0.5", "--top-k=3",
             "--top-p=0.9", "--repetition-penalty=1.5", "--no-repeat-ngram-size=3", "--early-stopping",
             "--seed=11", "--stop", "a", "--stop", "b"]
    assert main(["run", str(tmp_path), "x", *words]) == 0
    assert model.options == {"max_new_tokens": 7, "min_new_tokens": 2, "do_sample": True, "temperature": 0.5,
                             "top_k": 3, "top_p": 0.9, "repetition_penalty": 1.5, "no_repeat_ngram_size": 3,
                             "early_stopping": True, "seed": 11, "stop": ("a", "b")}


def test_every_generation_option_can_be_typed():
    typed = {name.replace("-", "_") for name in run.GENERATION} | {"stop"}
    ids = {"eos_token_id", "pad_token_id", "forced_eos_token_id", "suppress_tokens"}  # the tokenizer's or the model's
    assert set(GenerationOptions.field_names()) - typed <= ids


def test_standard_input_gives_a_text_a_line(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("abc\nde\n"))
    main(["run", str(tmp_path), "-"])
    assert capsys.readouterr().out == "cba\ned\n"
    assert main(["run", str(tmp_path), "-"]) == 2
    assert "holds no text" in capsys.readouterr().err


@pytest.mark.parametrize("words, message", [
    (["--top-p", "1.5"], "`top_p` of GenerationOptions must be above 0 and at most 1. Received: 1.5"),
    (["--max-new-tokens", "0"], "argument --max-new-tokens: must be a whole number of at least 1"),
    (["--num-beams", "2", "--do-sample"], "must be 1 when do_sample=True"),
    (["--runtime", "onnx"], "is no bundle, so it has no runtimes"),
    (["--variant", "int8"], "is no bundle, so it has no runtimes"),
])
def test_bad_options_are_refused(model, tmp_path, capsys, words, message):
    assert main(["run", str(tmp_path), "abc", *words]) == 2
    assert message in capsys.readouterr().err
    assert model.options is None


def test_a_bundle_is_opened_in_the_runtime_asked_for(tmp_path, monkeypatch, capsys):
    import kzoo.export

    (tmp_path / "manifest.json").write_text("{}")
    chosen = {}
    monkeypatch.setitem(kzoo.export.__dict__, "open_bundle", lambda path, **choice: chosen.update(choice) or Model())
    assert main(["run", str(tmp_path), "abc", "--runtime", "tflite", "--variant", "int8"]) == 0
    assert chosen == {"runtime": "tflite", "variant": "int8"}
    assert capsys.readouterr().out == "cba\n"


class Answerer:
    """A model of another task: a function of a list."""

    def __init__(self, task, reply):
        self.task, self.reply = task, reply

    def __call__(self, inputs, **options):
        return [self.reply(each, **options) for each in inputs]


def test_other_tasks_answer_by_a_call():
    model = Answerer("text-classification", lambda text, truncate=False: {"label": len(text), "cut": truncate})
    assert run.answer(model, ["abc", "de"], {"truncate": True}) == [{"label": 3, "cut": True},
                                                                    {"label": 2, "cut": True}]


@pytest.mark.parametrize("task, options, message", [
    ("text-classification", {"num_beams": 2}, "--num-beams means nothing to a model of the task 'text-classification'"),
    ("question-answering", {"top_k": 2}, "--top-k means nothing"),
    ("text-generation", {"truncate": True}, "--truncate means nothing"),
    ("token-classification", {"truncate": True}, "--truncate means nothing"),  # it reads all, in windows
])
def test_options_of_other_tasks_are_refused(task, options, message):
    with pytest.raises(ValueError, match=message):
        run.answer(Answerer(task, str.upper), ["abc"], options, "where" if task.startswith("question") else None)


def test_the_options_are_those_of_the_task():
    model = Answerer("fill-mask", lambda text, top_k: [[text] * top_k])
    assert run.answer(model, ["a"], {"top_k": 2}) == [[["a", "a"]]]
    model = Answerer("translation", lambda text, num_beams, truncate: (text, num_beams, truncate))
    assert run.answer(model, ["a"], {"num_beams": 3, "truncate": True}) == [("a", 3, True)]


def test_questions_need_a_context(replace, tmp_path, capsys):
    replace("load", Answerer("question-answering", lambda row: {"answer": row["context"][:3], "score": 0.5,
                                                                "start": 0, "end": 3}))
    (tmp_path / "facts.txt").write_text("Ulm lies on the Danube.")
    assert main(["run", str(tmp_path), "Where?", "--context", str(tmp_path / "facts.txt")]) == 0
    assert capsys.readouterr().out == "Ulm  0.5000  0-3\n"
    main(["run", str(tmp_path), "Where?", "--context", "Bonn lies on the Rhine.", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["answer"]["answer"] == "Bon"
    assert main(["run", str(tmp_path), "Where?"]) == 2
    assert "needs --context" in capsys.readouterr().err


def test_a_context_is_for_questions(model, tmp_path, capsys):
    assert main(["run", str(tmp_path), "abc", "--context", "x"]) == 2
    assert "--context is for models that answer questions" in capsys.readouterr().err


def test_a_context_is_a_file_or_a_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="a.txt is not UTF-8"):
        run.read_context(str(tmp_path / "a.txt"))
    for text in ("Ulm. " * 999, "a\0b", "Ulm/Danube"):
        assert run.read_context(text) == text

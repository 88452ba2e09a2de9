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
             "--top-p=0.9", "--repetition-penalty=1.5", "--seed=11", "--stop", "a", "--stop", "b"]
    assert main(["run", str(tmp_path), "x", *words]) == 0
    assert model.options == {"max_new_tokens": 7, "min_new_tokens": 2, "do_sample": True, "temperature": 0.5,
                             "top_k": 3, "top_p": 0.9, "repetition_penalty": 1.5, "seed": 11, "stop": ("a", "b")}


def test_every_generation_option_can_be_typed():
    typed = {name.replace("-", "_") for name in run.GENERATION} | {"stop"}
    assert set(GenerationOptions.field_names()) - typed == {"eos_token_id", "pad_token_id"}  # the tokenizer's


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


def test_other_tasks_answer_by_a_call():
    class Classifier:
        task = "text-classification"

        def __call__(self, text):
            return {"label": len(text)}

    assert run.answer(Classifier(), ["abc", "de"], {}) == [{"label": 3}, {"label": 2}]

"""Training for every task: from files to a model that knows them, in shapes that are few."""
import json
import os
import pathlib
import random
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import kzoo
from kzoo.training.sources import ModelSource
from kzoo.training.trainer import train

HERE = pathlib.Path(__file__).parent
JIT = "on" if keras.backend.backend() == "jax" else "off"  # whichever is quicker for so few steps
QUICK_XLA = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
SIZES = {"num_layers": 1, "num_heads": 2, "hidden_dim": 10, "intermediate_dim": 13, "dropout": 0.0}
BERT = {"overrides": {**SIZES, "attention_dropout": 0.0, "max_sequence_length": 48}, "vocabulary_size": 60, "jit": JIT,
        "batch_size": 5, "steps": 4, "interval": 2, "validation_split": 0.2}
WORDS = ["one", "two", "three", "four", "five", "left", "home"]


def sentence(generator, least=1, most=9):
    return " ".join(generator.choices(WORDS, k=generator.randint(least, most)))


def texts(folder, count=31):
    """A label says whether `one` stands in the text."""
    generator = random.Random(3)
    rows = [sentence(generator) for _ in range(count)]
    path = folder / "texts.tsv"
    path.write_text("".join(f"{row}\t{'yes' if 'one' in row.split() else 'no'}\n" for row in rows))
    return path


def tags(folder):
    generator, path = random.Random(4), folder / "tags.conll"
    path.write_text("\n\n".join("\n".join(f"{word}\t{'B-N' if word in WORDS[:5] else 'O'}" for word in
                                          sentence(generator).split()) for _ in range(23)))
    return path


def pairs(folder):
    generator, paths = random.Random(5), [folder / "pairs.en", folder / "pairs.xx"]
    rows = [sentence(generator) for _ in range(29)]
    paths[0].write_text("\n".join(rows))
    paths[1].write_text("\n".join(" ".join(reversed(row.split())) for row in rows))
    return paths


def questions(folder):
    generator, paragraphs = random.Random(6), []
    for number in range(11):
        context = sentence(generator, 5, 12)
        answer = generator.choice(context.split())
        paragraphs.append({"context": context, "qas": [{"id": str(number), "question": "which", "answers": [
            {"text": answer, "answer_start": context.index(answer)}]}]})
    path = folder / "questions.json"
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return path


def running_text(folder):
    generator, path = random.Random(7), folder / "text.txt"
    path.write_text(" ".join(sentence(generator) for _ in range(60)))
    return path


# task -> data, preset, options, what the log has besides the loss, and what the results have
SEQ2SEQ = {**BERT, "overrides": {**SIZES, "num_decoder_layers": 1}, "vocabulary_size": 300}
TASKS = {
    "text-classification": (texts, "bert-tiny", BERT, "accuracy", "examples"),
    "token-classification": (tags, "bert-tiny", BERT, "accuracy", "examples"),
    "question-answering": (questions, "bert-tiny", BERT, "exact", "examples"),
    "fill-mask": (running_text, "bert-tiny", {**BERT, "sequence_length": 16, "whole_words": True}, "accuracy",
                  "hidden_tokens"),
    "translation": (pairs, "transformer-tiny", SEQ2SEQ, None, "target_tokens"),
}


@pytest.mark.parametrize("task", TASKS)
def test_a_task_is_trained_measured_and_kept(tmp_path, task):
    make, preset, options, measure, told = TASKS[task]
    run = train(preset, make(tmp_path), tmp_path / "run", task, **options)
    rows = run.results["history"]
    assert [row["step"] for row in rows] == [2, 4] and 0 < rows[0]["tokens"] < rows[1]["tokens"]
    assert all(np.isfinite(row["loss"]) and np.isfinite(row["valid_loss"]) for row in rows)
    assert (f"valid_{measure}" in rows[0]) is (measure is not None)
    assert run.results["valid"]["loss"] == pytest.approx(rows[-1]["valid_loss"], rel=1e-4)
    assert run.results["valid"][told] > 0
    header = (run.folder / "log.csv").read_text().splitlines()[0].split(",")
    assert header == ["step", "tokens", "learning_rate", "loss", "valid_loss"] + [f"valid_{measure}"] * bool(measure)
    model = kzoo.load(run.folder)
    assert (model.task, model.newly_initialized) == (task, ())
    if "classification" in task:
        assert model.labels == (("no", "yes") if task.startswith("text") else ("B-N", "O"))


def test_a_classifier_learns(tmp_path):
    run = train("bert-tiny", texts(tmp_path, 400), tmp_path / "run", "text-classification",
                **{**BERT, "steps": 120, "interval": 40, "batch_size": 16, "learning_rate": 5e-3, "keep": "best"})
    assert run.results["valid"]["accuracy"] > 0.95
    best = max(row["valid_accuracy"] for row in run.results["history"])
    assert run.results["valid"]["accuracy"] == best
    assert run.model("two one five")["label"] == "yes" and run.model("two five")["label"] == "no"


def test_the_training_loss_is_that_of_the_rows(tmp_path):
    """With next to no rate and no dropout, an epoch in steps of two batches says what a validation on its rows says."""
    path = texts(tmp_path, 30)
    run = train("bert-tiny", path, tmp_path / "run", "text-classification", valid=path, gradient_accumulation=2,
                **{**BERT, "steps": 3, "interval": "epoch", "learning_rate": 1e-9, "validation_split": 0.0,
                   "weight_decay": 0.0})
    row, = run.results["history"]
    assert row["step"] == 3 and row["loss"] == pytest.approx(row["valid_loss"], rel=1e-4)
    assert row["tokens"] == sum(len(run.model.tokenizer.encode(line.split("\t")[0]))
                                for line in path.read_text().splitlines())


def test_fine_tuning_for_another_task_says_what_is_new(tmp_path):
    options = {name: value for name, value in BERT.items() if name not in ("overrides", "vocabulary_size")}
    train("bert-tiny", running_text(tmp_path), tmp_path / "first", "fill-mask", sequence_length=16, **BERT)
    with pytest.warns(UserWarning, match="classifier.* is newly initialised"):
        run = train(tmp_path / "first", texts(tmp_path), tmp_path / "second", "text-classification", truncate="end",
                    **{**options, "learning_rate": 1e-9, "weight_decay": 0.0, "overrides": {"dropout": "0.3"}})
    first = kzoo.load(tmp_path / "first")
    same = [np.allclose(*(keras.ops.convert_to_numpy(variable) for variable in pair), atol=1e-6)
            for pair in zip(first.backbone.weights, run.model.backbone.weights, strict=True)]
    assert all(same) and run.model.tokenizer.fingerprint == first.tokenizer.fingerprint
    assert run.results["newly_initialized"] == list(run.model.newly_initialized) != []
    assert kzoo.load(tmp_path / "second").config == first.config.replace(dropout=0.3) != first.config
    # Labels that it knows are no reason for a new head, others are.
    three = ("yes", "perhaps", "no")
    for labels, expected, new in ((("yes",), ("no", "yes"), False), (three, three, True)):
        source = ModelSource(tmp_path / "second", "text-classification", None, None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source.open(labels, seed=3)
        assert source.labels == expected and bool(source.make(None, 3).newly_initialized) is new


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_shapes_are_few_and_traced_once(tmp_path, backend):
    pytest.importorskip(backend, reason=f"the backend {backend} is optional")
    process = subprocess.run(
        [sys.executable, str(HERE / "count_traces.py"), str(tmp_path)], capture_output=True, text=True, check=False,
        env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(HERE.parents[1]), "XLA_FLAGS": QUICK_XLA})
    assert process.returncode == 0, process.stderr
    found = json.loads(process.stdout.splitlines()[-1])
    assert found["shapes"] == 2 and found["lengths"] > 50
    # Each shape once in training and once in validation; Keras looks at the first batch before it trains.
    assert found["traces"] <= 2 * found["shapes"] + 2 < found["steps"]


@pytest.mark.parametrize("change, words", [
    ({"data": "one class"}, r"all 4 rows have the label 'yes'. A classifier needs at least two"),
    ({"valid": "unseen"}, r"valid.tsv, line 2: the label 'maybe' is none of those that the model learns \(no, yes\)"),
    ({"data": "bad"}, r"data.tsv, line 2: expected 2 columns"),
    ({"sequence_length": 4}, r"texts.tsv, line \d+: the text has \d+ tokens and the model takes 4. .*--truncate"),
    ({"task": "translation"}, r"cannot serve the task 'translation'. It can: .*'translation' is served by: "),
    ({"task": "feature-extraction"}, "A feature extractor is not trained by itself"),
    ({"overrides": {"vocabulary_size": 7}}, "The tokenizer has .* tokens, the model's embedding 7 rows"),
    ({"validation_split": 0.0, "patience": 2}, "`patience`=2 needs data to validate on"),
    ({"validation_split": 0.0, "keep": "best"}, "`keep`='best' needs data to validate on"),
    ({"batch_tokens": 99}, "`batch_size` and `batch_tokens` exclude each other"),
    ({"whole_words": True}, "`whole_words` is for fill-mask; it means nothing for text-classification"),
    ({"class_weights": "yes=2,perhaps=1"}, "Unknown label in `class_weights` 'perhaps'"),
    ({"class_weights": "yes=-2"}, "`class_weights` must be .* Received: 'yes=-2'"),
    ({"columns": "txet=1"}, "Did you mean 'text'"),
])
def test_bad_input_is_refused_and_leaves_nothing(tmp_path, change, words):
    options = {**BERT, "task": "text-classification", "data": texts(tmp_path), **change}
    contents = {"one class": "a\tyes\nb\tyes\nc\tyes\nd\tyes\n", "bad": "a\tyes\nb\n"}
    if options["data"] in contents:
        (tmp_path / "data.tsv").write_text(contents[options["data"]])
        options["data"] = tmp_path / "data.tsv"
    if "valid" in options:
        (tmp_path / "valid.tsv").write_text("a\tyes\nb\tmaybe\n")
        options["valid"] = tmp_path / "valid.tsv"
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=words):
        train("bert-tiny", out=tmp_path / "run", **options)
    assert sorted(tmp_path.iterdir()) == before


def test_bad_rows_are_skipped_and_told(tmp_path, capsys):
    path = texts(tmp_path)
    path.write_text(path.read_text() + "no label\n" + "one " * 60 + "\tyes\n")
    run = train("bert-tiny", path, tmp_path / "run", "text-classification", skip_bad_rows=True, **BERT)
    told = capsys.readouterr().err
    assert "Skipped 1 bad row: " in told and "line 32: expected 2 columns" in told and "the model takes 48" in told
    assert run.results["steps"] == 4


def test_training_stops_when_patience_runs_out(tmp_path, capsys):
    run = train("bert-tiny", texts(tmp_path), tmp_path / "run", "text-classification",
                **{**BERT, "steps": 40, "patience": 2, "learning_rate": 1e-9, "average_checkpoints": 2})
    assert run.results["steps"] == 6 and "Stopped at step 6: 2 validations were no better" in capsys.readouterr().err
    assert run.results["kept"] == "mean of steps 4, 6"
    assert run.results["average"]["accuracy"] == run.results["valid"]["accuracy"]

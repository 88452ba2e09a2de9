"""Training as a whole: what is written, what is refused, and that killed runs end as if nothing had happened."""
import itertools
import json
import os
import pathlib
import random
import subprocess
import sys
import types

import keras
import numpy as np
import pytest

import kzoo
from kzoo.config import Config
from kzoo.errors import CheckFailed
from kzoo.models.gpt2 import GPT2Config
from kzoo.training import callbacks, fitting
from kzoo.training.options import TrainOptions
from kzoo.training.trainer import train

TINY = {"num_layers": 1, "num_heads": 2, "hidden_dim": 6}
JIT = "on" if keras.backend.backend() == "jax" else "off"  # whichever is quicker for so few steps
OPTIONS = {"tokenizer": "character", "sequence_length": 5, "batch_size": 3, "steps": 7, "interval": 3, "jit": JIT,
           "overrides": TINY}
HERE = pathlib.Path(__file__).parent


@pytest.fixture
def data(tmp_path):
    words = random.Random(5).choices(["one", "two", "three", "four,", "five.\n"], k=211)
    path = tmp_path / "data.txt"
    path.write_text(" ".join(words))
    return path


def weights(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.weights]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


# task -> what each process leaves: moment, exit status, checkpoints, rows of the log
DONE = ("never", 0, [], 4)
BY_ROWS = ("encoding rows", -9, [], 0), ("between checkpoints", -9, [3], 1), DONE, DONE
KILLED = {
    "text-generation": (
        ("encoding", -9, [], 0), ("between checkpoints", -9, [3], 1),
        ("writing a checkpoint", -9, [3, 6], 1),  # the second is half a file, see below
        ("before the log", -9, [3, 6], 1), ("saving the model", -9, [9, 11], 4), DONE, DONE, DONE),
    "text-classification": BY_ROWS, "translation": BY_ROWS}


@pytest.mark.parametrize("task", KILLED)
def test_a_run_killed_again_and_again_ends_with_the_same_bits(tmp_path, data, task):
    if task != "text-generation":
        words = random.Random(7).choices(["one", "two", "three"], k=400)
        data = tmp_path / "data.tsv"
        rows = [(" ".join(words[number:number + 1 + number % 7]), number % 2) for number in range(31)]
        data.write_text("".join(f"{text}\t{label if task == 'text-classification' else text[::-1]}\n"
                                for text, label in rows))
    process = subprocess.run([sys.executable, str(HERE / "killed_run.py"), task, str(data), str(tmp_path)],
                             env={**os.environ, "PYTHONPATH": str(HERE.parents[1])}, capture_output=True, text=True,
                             timeout=300, check=False)
    rows = [json.loads(line) for line in process.stdout.splitlines()]
    steps = [[int(name[5:14]) for name in row["checkpoints"]] for row in rows]
    found = [(row["moment"], row["status"], number, row["rows"]) for row, number in zip(rows, steps, strict=True)]
    assert tuple(found) == KILLED[task], process.stderr
    assert not rows[0]["exists"]
    if task == "text-generation":
        assert rows[2]["checkpoints"][1].endswith(".partial")
        for step in (6, 11):
            assert f"Resumed from step {step}." in process.stderr
        assert (tmp_path / "other" / "model.safetensors").read_bytes() != (
            tmp_path / "whole" / "model.safetensors").read_bytes()
    assert "Resumed from step 3." in process.stderr
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for name in ("model.safetensors", "config.json", "log.csv", "tokenizer.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert not list(tmp_path.glob(".killed*"))  # what the process that died while encoding left behind


def test_a_run_is_a_model_with_its_record(tmp_path, data):
    run = train("gpt2-nano", data, tmp_path / "run", logdir=tmp_path / "logs", **{**OPTIONS, "jit": "on"})
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "config.json", "log.csv", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "training.json"]
    loaded = kzoo.load(run.folder)
    assert same(weights(loaded), weights(run.model))
    assert loaded.tokenizer.fingerprint == run.model.tokenizer.fingerprint
    record = json.loads((run.folder / "training.json").read_text())
    assert record["state"] == "finished" and record["results"] == run.results
    assert [row["step"] for row in run.results["history"]] == [3, 6, 7]
    assert run.results["history"][-1]["tokens"] == 7 * 3 * 5
    assert len(list((tmp_path / "logs").iterdir())) == 1
    # The last validation is the one of `kzoo.evaluate`, over the last tenth of the text.
    measured = kzoo.evaluate(run.folder, data, tail=0.1)
    assert measured == pytest.approx(run.results["valid"], rel=1e-5)
    assert measured != pytest.approx(kzoo.evaluate(run.folder, data, tail=0.2), rel=1e-5)


def test_training_learns(tmp_path, data):
    data.write_text("abcdefgh" * 60)
    run = train("gpt2-nano", data, tmp_path / "run", learning_rate=0.05,
                **{**OPTIONS, "steps": 60, "interval": 60, "overrides": {**TINY, "hidden_dim": 10}})
    assert run.results["valid"]["perplexity"] < 1.5  # of 9 tokens
    assert run.model.generate("abc", max_new_tokens=2) == "abcde"


def test_interrupted_by_the_keyboard_and_resumed(tmp_path, data, monkeypatch, capsys):
    clock = itertools.count(step=1000)  # each look at it takes so long: three checkpoints, and the end
    monkeypatch.setattr(fitting, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    whole = train("gpt2-nano", data, tmp_path / "whole", **OPTIONS)
    with monkeypatch.context() as patch:
        interrupted_after_a_checkpoint(data, tmp_path / "run", patch)
    assert "give the same command with --resume" in capsys.readouterr().err
    run = train("gpt2-nano", data, tmp_path / "run", resume=True, **OPTIONS)
    assert "Resumed from step 3." in capsys.readouterr().err
    for found, expected in zip(weights(run.model), weights(whole.model), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert run.results["seconds"] == whole.results["seconds"] == 4000  # both processes together
    again = train("gpt2-nano", data, tmp_path / "run", resume=True, **OPTIONS)
    assert "there is nothing left to train" in capsys.readouterr().err
    assert again.results == json.loads((tmp_path / "run" / "training.json").read_text())["results"]


@pytest.fixture
def stopped(tmp_path, data, monkeypatch):
    """The folder of a run that was prepared and then interrupted."""
    with monkeypatch.context() as patch:
        patch.setattr("kzoo.training.trainer.fit", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train("gpt2-nano", data, tmp_path / "run", **OPTIONS)
    return tmp_path / "run"


@pytest.mark.parametrize("change, words", [
    ({"seed": 1}, "options.seed was 0 and is now 1"),
    ({"learning_rate": 0.5}, "options.learning_rate was 0.001 and is now 0.5"),
    ({"overrides": {**TINY, "dropout": 0.5}}, "config.dropout was 0.0 and is now 0.5"),
    ({"tokenizer": "byte-bpe"}, "tokenizer.kind was 'character' and is now 'byte-bpe'"),
    ({"valid": True}, "valid.sha256 was None and is now"),
    ({"data": "changed"}, "data.sha256 was"),
])
def test_resuming_with_anything_else_is_refused(data, stopped, change, words):
    if change.get("valid"):
        change = {"valid": data}
    if change.pop("data", None):
        data.write_text(data.read_text() + "more")
    before = (stopped / "training.json").read_bytes()
    with pytest.raises(ValueError, match=f"cannot be resumed: {words}"):
        train("gpt2-nano", data, stopped, resume=True, **{**OPTIONS, **change})
    assert (stopped / "training.json").read_bytes() == before


def interrupted_after_a_checkpoint(data, out, patch):
    original = callbacks.ShowProgress.on_train_batch_end

    def interrupt(self, batch, logs=None):
        if self._first == 3 and batch == 1:
            raise KeyboardInterrupt
        original(self, batch, logs)

    patch.setattr(callbacks.ShowProgress, "on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train("gpt2-nano", data, out, **OPTIONS)


def test_a_run_that_is_older_than_a_field_had_its_default(tmp_path, data, monkeypatch, capsys):
    newer = {TrainOptions: ("sort_by_length", "beta_1"), GPT2Config: ("layer_norm_epsilon", "scale_scores_by_layer")}
    with monkeypatch.context() as patch:
        patch.setattr("kzoo.training.trainer.check_same", lambda *arguments, **more: None)
        for config, names in newer.items():
            patch.setattr(config, "to_dict", lambda self, names=names: {
                name: value for name, value in Config.to_dict(self).items() if name not in names})
        interrupted_after_a_checkpoint(data, tmp_path / "run", patch)
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    for part, names in zip(("options", "config"), newer.values(), strict=True):
        assert not set(names) & set(record["identity"][part])
    for change, words in [({"beta_1": 0.8}, "options.beta_1 was 0.9 and is now 0.8"),
                          ({"overrides": {**TINY, "scale_scores_by_layer": True}},
                           "config.scale_scores_by_layer was False and is now True")]:
        with pytest.raises(ValueError, match=f"cannot be resumed: {words}"):
            train("gpt2-nano", data, tmp_path / "run", resume=True, **{**OPTIONS, **change})
    capsys.readouterr()
    assert train("gpt2-nano", data, tmp_path / "run", resume=True, **OPTIONS).results["steps"] == 7
    assert "Resumed from step 3." in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_refused(tmp_path, data, monkeypatch):
    with monkeypatch.context() as patch:
        interrupted_after_a_checkpoint(data, tmp_path / "run", patch)
    record = json.loads((tmp_path / "run" / "training.json").read_text())
    record["identity"]["options"]["beta_1"] = 0.8
    (tmp_path / "run" / "training.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="step-.* is of another run. Take it out of the folder"):
        train("gpt2-nano", data, tmp_path / "run", resume=True, **OPTIONS, beta_1=0.8)


def test_a_record_without_options_is_refused_in_words(data, stopped):
    record = json.loads((stopped / "training.json").read_text())
    del record["identity"]["options"]
    (stopped / "training.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="cannot be resumed: options.validation_split was None and is now 0.1"):
        train("gpt2-nano", data, stopped, resume=True, **OPTIONS)


def test_an_existing_folder_is_refused_before_any_work(tmp_path, data, stopped, monkeypatch):
    monkeypatch.setattr("kzoo.training.trainer.open_data", None)  # would fail if it were reached
    with pytest.raises(FileExistsError, match="already exists"):
        train("gpt2-nano", data, stopped, **OPTIONS)
    with pytest.raises(ValueError, match="give one of them"):
        train("gpt2-nano", data, stopped, resume=True, overwrite=True, **OPTIONS)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("words")
    for option in ("resume", "overwrite"):
        with pytest.raises(ValueError, match="is not a run: it holds no training.json"):
            train("gpt2-nano", data, tmp_path / "precious", **{option: True}, **OPTIONS)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "words"


@pytest.mark.parametrize("change, error, words", [
    ({"data": "missing.txt"}, FileNotFoundError, "missing.txt does not exist"),
    ({"text": ""}, ValueError, "is empty"),
    ({"text": "a\0b"}, ValueError, "is binary"),
    ({"text": "too short"}, ValueError, "training part of .* is too short: 8 tokens, a window needs 12"),
    ({"text": "long enough to train"}, ValueError, "validation part of .* is too short: 2 tokens, a window needs 12"),
    ({"valid": "missing.txt"}, FileNotFoundError, "missing.txt"),
    ({"steps": 0}, ValueError, "`steps`"),
    ({"stepz": 5}, ValueError, "Did you mean 'steps'"),
    ({"tokenizer": "byte-bpe", "vocabulary_size": 40}, ValueError, "`vocabulary_size` must be at least 257"),
    ({"overrides": {"vocabulary_size": 3}}, ValueError, "The tokenizer has"),
    ({"task": "fill-mask"}, ValueError, "cannot serve the task 'fill-mask'. It can: text-generation"),
])
def test_bad_input_is_refused_and_leaves_nothing(tmp_path, data, change, error, words):
    options = {**OPTIONS, "sequence_length": 11, **change}
    if "text" in options:
        data.write_text(options.pop("text"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=words):
        train("gpt2-nano", options.pop("data", data), tmp_path / "run", **options)
    assert sorted(tmp_path.iterdir()) == before


def test_a_failed_start_keeps_the_run_that_was_to_be_overwritten(data, stopped):
    before = sorted(path.name for path in stopped.rglob("*"))
    with pytest.raises(ValueError, match="too short"):
        train("gpt2-nano", data, stopped, overwrite=True, **{**OPTIONS, "sequence_length": 5000})
    assert sorted(path.name for path in stopped.rglob("*")) == before


def test_a_diverged_run_says_so(tmp_path, data):
    model = kzoo.create("gpt2-nano", **TINY, vocabulary_size=40)
    model.weights[0].assign(np.full(model.weights[0].shape, np.nan))
    options = {name: value for name, value in OPTIONS.items() if name != "overrides"}
    with pytest.raises(CheckFailed, match="has diverged"):
        train(model, data, tmp_path / "run", **options)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_trains_float32_weights(tmp_path, data, precision):
    run = train("gpt2-nano", data, tmp_path / "run", mixed_precision=precision, validation_split=0.0,
                **{**OPTIONS, "steps": 3})
    assert run.model.compute_dtype == precision
    assert np.isfinite(run.results["loss"]) and run.results["valid"] is None
    assert {str(variable.dtype) for variable in run.model.trainable_variables} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_going_on_from_a_run_keeps_its_tokenizer_and_weights(tmp_path, data):
    first = train("gpt2-nano", data, tmp_path / "first", **OPTIONS)
    options = {"batch_size": 3, "steps": 1, "learning_rate": 1e-9, "weight_decay": 0.0, "jit": JIT}
    second = train(tmp_path / "first", data, tmp_path / "second", valid=data, **options)
    assert second.model.tokenizer.fingerprint == first.model.tokenizer.fingerprint
    for found, expected in zip(weights(second.model), weights(first.model), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-7)
    assert second.results["valid"]["characters"] == len(data.read_text()) - 1


def test_jax_trains_without_tensorflow(tmp_path, data):
    pytest.importorskip("jax", reason="the JAX backend is optional")
    code = ("import sys; sys.modules['tensorflow'] = None\n"  # importing it fails now
            "import kzoo\n"
            f"kzoo.train('gpt2-nano', {str(data)!r}, {str(tmp_path / 'run')!r}, jit='on', steps=2, batch_size=3,\n"
            f"           sequence_length=5, tokenizer='character', overrides={TINY!r}, deterministic=True)")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(HERE.parents[1])}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "run" / "model.safetensors").is_file()

"""`kzoo bench`: a row for everything that can be measured."""
import json
import types

import pytest

import kzoo
from kzoo.cli import bench, main
from kzoo.export import latency


class Session:
    max_sequence_length = 23


class LiveModel:
    def decoder(self):
        return Session()


@pytest.fixture
def measured(monkeypatch):
    """Measuring takes no time and gives round numbers; returns what was measured, and how."""
    calls = []

    def measure(decoder, **options):
        calls.append((type(decoder), options))
        return {"prompt_length": 5, "new_tokens": 7, "first_token_seconds": 0.25, "tokens_per_second": 32.0}

    clock = iter(range(0, 1000, 2))
    monkeypatch.setattr(bench, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(latency, "measure", measure)
    return calls


def described(monkeypatch, **found):
    monkeypatch.setattr(bench, "describe", lambda path: {"task": "text-generation", **found})


def test_every_artifact_is_a_row(monkeypatch, measured, tmp_path, capsys):
    described(monkeypatch, kind="bundle", artifacts=[{"runtime": "onnx", "variant": "none", "size": 1234},
                                                     {"runtime": "tflite", "variant": "int8", "size": 432}])
    opened = []
    monkeypatch.setattr(bench, "open_model", lambda path, **choice: opened.append(choice) or Session())
    assert main(["bench", str(tmp_path), "--json", "--new-tokens", "5"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["runtime"], row["variant"], row["size"]) for row in rows] == [
        ("onnx", "none", 1234), ("tflite", "int8", 432)]
    assert all(row["load_seconds"] == 2 and row["tokens_per_second"] == 32.0 for row in rows)
    assert opened == [{"runtime": "onnx", "variant": "none"}, {"runtime": "tflite", "variant": "int8"}]
    assert measured == [(Session, {"new_tokens": 5})] * 2
    assert main(["bench", str(tmp_path)]) == 0
    assert "tflite   int8      432 B    2.00           250.0  32 tokens/s" in capsys.readouterr().out


def test_a_runtime_that_is_not_installed_is_left_out(monkeypatch, measured, tmp_path, capsys):
    described(monkeypatch, kind="bundle", artifacts=[{"runtime": "tflite", "variant": "none", "size": 432},
                                                     {"runtime": "onnx", "variant": "none", "size": 1234}])

    def open_model(path, runtime, variant):
        if runtime != "onnx":
            raise ImportError("Install kzoo[tflite].")
        return Session()

    monkeypatch.setattr(bench, "open_model", open_model)
    assert main(["bench", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert [row["runtime"] for row in json.loads(out)] == ["onnx"]
    assert "Install kzoo[tflite]." in err
    described(monkeypatch, kind="bundle", artifacts=[{"runtime": "tflite", "variant": "none", "size": 432}])
    assert main(["bench", str(tmp_path)]) == 2


def test_a_run_is_measured_by_its_decoder(monkeypatch, measured, tmp_path, capsys):
    described(monkeypatch, kind="run", files={"model.safetensors": 500, "checkpoints/step-1.safetensors": 1500})
    monkeypatch.setattr(bench, "open_model", lambda path, **choice: LiveModel())
    assert main(["bench", str(tmp_path), str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["runtime"], row["variant"], row["size"]) for row in rows] == [("live", "none", 500)] * 2
    assert measured == [(Session, {})] * 2


def test_a_context_that_is_too_short_is_said(monkeypatch, tmp_path, capsys):
    described(monkeypatch, kind="run", files={})
    monkeypatch.setattr(bench, "open_model", lambda path, **choice: Session())
    monkeypatch.setattr(latency, "measure", lambda decoder: {})
    assert main(["bench", str(tmp_path)]) == 2
    assert "the context is too short" in capsys.readouterr().err


def test_an_unfinished_run_is_refused(monkeypatch):
    described(monkeypatch, kind="unfinished run")
    with pytest.raises(ValueError, match="is not finished"):
        bench.candidates("run")


def test_a_model_that_answers_is_measured_by_texts(monkeypatch, tmp_path, capsys):
    described(monkeypatch, kind="run", task="text-classification", files={"model.safetensors": 500})
    model = kzoo.create("bert-tiny", task="text-classification", labels=("a", "b"), vocabulary_size=11, num_layers=1,
                        num_heads=2, hidden_dim=6, intermediate_dim=7, max_sequence_length=5)
    monkeypatch.setattr(bench, "open_model", lambda path, **choice: model)
    assert main(["bench", str(tmp_path), "--json", "--repeats", "1", "--text-length", "3"]) == 0
    row, = json.loads(capsys.readouterr().out)
    assert row["text_length"] == 3 and row["seconds_per_text"] > 0
    assert main(["bench", str(tmp_path), "--repeats", "1"]) == 0
    assert "ms a text" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--new-tokens", "1"], ["--repeats", "0"], ["--prompt-length", "x"]])
def test_bad_options_are_refused(tmp_path, words):
    assert main(["bench", str(tmp_path), *words]) == 2

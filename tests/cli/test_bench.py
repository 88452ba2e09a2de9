"""`kzoo bench`: a row for everything that can be measured."""
import json

import pytest

import kzoo
from kzoo.cli import bench, main
from kzoo.export import latency, process


class Session:
    max_sequence_length = 23


class LiveModel:
    def decoder(self):
        return Session()


FOUND = {"prompt_length": 5, "new_tokens": 7, "first_token_seconds": 0.25, "tokens_per_second": 32.0}


@pytest.fixture
def measured(monkeypatch):
    """Measuring takes no time and gives round numbers; returns what was measured, and how."""
    calls = []

    def run_worker(what, folder, **spec):
        calls.append((what, spec))
        return {**FOUND, "load_seconds": 2, "memory": 3_000_000, "seconds": 9, "peak_memory": 9}

    def measure(decoder, **options):
        calls.append((type(decoder), options))
        return FOUND

    monkeypatch.setattr(process, "run_worker", run_worker)
    monkeypatch.setattr(latency, "measure", measure)
    return calls


def described(monkeypatch, **found):
    monkeypatch.setattr(bench, "describe", lambda path: {"task": "text-generation", **found})


BUNDLE = {"kind": "bundle", "artifacts": [{"runtime": "onnx", "variant": "none", "size": 1234},
                                          {"runtime": "tflite", "variant": "int8", "size": 432}]}


def test_every_artifact_is_a_row_and_has_a_process(monkeypatch, measured, tmp_path, capsys):
    described(monkeypatch, **BUNDLE)
    assert main(["bench", str(tmp_path), "--json", "--new-tokens", "5"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["runtime"], row["variant"], row["size"]) for row in rows] == [
        ("onnx", "none", 1234), ("tflite", "int8", 432)]
    assert all(row["load_seconds"] == 2 and row["tokens_per_second"] == 32.0 and row["memory"] == 3_000_000
               and not {"seconds", "peak_memory"} & set(row) for row in rows)
    spec = {"command": "bench", "bundle": str(tmp_path.resolve()), "options": {"new_tokens": 5}}
    assert measured == [
        (f"measuring onnx none of {tmp_path}", {**spec, "runtime": "onnx", "variant": "none"}),
        (f"measuring tflite int8 of {tmp_path}", {**spec, "runtime": "tflite", "variant": "int8"})]
    assert main(["bench", str(tmp_path)]) == 0
    assert "tflite   int8      432 B  3.0 MB    2.00           250.0  32 tokens/s" in capsys.readouterr().out


def test_it_draws_a_page(monkeypatch, measured, tmp_path, capsys):
    described(monkeypatch, **BUNDLE)
    page = tmp_path / "page.html"
    assert main(["bench", str(tmp_path), "--html", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    for shown in ("ONNX</span>", "TFLite int8</span>", "32 tokens/s", "250.0 ms", "2.00 s", "3.0 MB",
                  "one prompt of 5 tokens, 7 new ones"):
        assert shown in text, shown
    for wrong in ("page.txt", "nowhere/page.html"):
        measured.clear()
        assert main(["bench", str(tmp_path), "--html", str(tmp_path / wrong)]) == 2
        assert wrong.partition("/")[0] in capsys.readouterr().err and not measured


def test_a_runtime_that_is_not_installed_is_left_out(monkeypatch, measured, tmp_path, capsys):
    described(monkeypatch, **BUNDLE)
    found = process.run_worker

    def run_worker(what, folder, runtime, **spec):
        if runtime != "onnx":
            raise ImportError("Install kzoo[tflite].")
        return found(what, folder, runtime=runtime, **spec)

    monkeypatch.setattr(process, "run_worker", run_worker)
    assert main(["bench", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert [row["runtime"] for row in json.loads(out)] == ["onnx"]
    assert "Install kzoo[tflite]." in err
    described(monkeypatch, kind="bundle", artifacts=BUNDLE["artifacts"][1:])
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
    monkeypatch.setattr(bench, "open_model", lambda path, **choice: LiveModel())
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

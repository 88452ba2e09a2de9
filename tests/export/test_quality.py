"""What quantisation may cost on data."""
import numpy as np
import pytest

import kzoo
from kzoo.cli import main
from kzoo.errors import CheckFailed
from kzoo.export import export, open_bundle, quality, read_bundle
from kzoo.export.keras_session import live_session
from kzoo.export.quality import METRICS, Metric, Reference, check_quality, measure_reference

TEXT = ["the quick brown fox", "jumps over the lazy dog", "pack my box", "with five dozen jugs"]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{'ab'[i % 2]}\n" for i, text in enumerate(TEXT)))
    return path


@pytest.fixture(scope="module")
def model(redrawn):
    tokenizer = kzoo.train_tokenizer("wordpiece", TEXT * 5, vocabulary_size=60)
    return redrawn(kzoo.create("bert-tiny", task="text-classification", labels=("a", "b"), tokenizer=tokenizer,
                               vocabulary_size=67, num_layers=1, num_heads=2, hidden_dim=32, intermediate_dim=17,
                               max_sequence_length=41))


def test_a_file_as_good_as_the_model_passes(model, data):
    reference = measure_reference(model, data)
    assert reference.limit == METRICS["text-classification"].limit and 0 <= reference.value <= 1
    check, value, limit, passed, note = check_quality(live_session(model), reference)
    assert passed and value == 0 and check.startswith("accuracy")


@pytest.mark.parametrize(("metric", "value", "found", "passed"), [
    (Metric("accuracy", 0.01), 0.9, 0.891, True), (Metric("accuracy", 0.01), 0.9, 0.889, False),
    (Metric("accuracy", 0.01), 0.9, 0.95, True), (Metric("accuracy", 0.01), 0.9, float("nan"), False),
    (Metric("perplexity", 0.02, True), 10.0, 10.19, True), (Metric("perplexity", 0.02, True), 10.0, 10.21, False)])
def test_the_limit_is_in_points_or_a_share(monkeypatch, model, metric, value, found, passed):
    monkeypatch.setitem(METRICS, "text-classification", metric)
    monkeypatch.setattr(quality, "_measure", lambda *arguments: found)
    assert check_quality(live_session(model), Reference(("x",), {}, value, metric.limit))[3] is passed


def test_the_metric_is_a_gate_of_the_export(model, data, tmp_path, monkeypatch, export_here):
    lines = []
    options = {"formats": ("onnx",), "quantize": ("int8",), "eval_data": data, "progress": lines.append}
    export_here(model, tmp_path / "good", **options)
    row = read_bundle(tmp_path / "good").artifacts[0].verification["rows"][-1]
    assert row["check"].startswith("accuracy") and row["passed"] and "the model's is" in row["note"]
    assert "measuring the model on the data" in lines
    assert "cosine 0.99" in read_bundle(tmp_path / "good").artifacts[0].verification["rows"][1]["note"]
    better = Reference((str(data),), {}, 2.0, 0.01)  # no file can be as good as that
    monkeypatch.setattr("kzoo.export.exporter.measure_reference", lambda *arguments: better)
    with pytest.raises(CheckFailed, match="onnx int8 failed verification: accuracy on the data given"):
        export_here(model, tmp_path / "bad", **options)
    assert not (tmp_path / "bad").exists()


def test_arithmetic_in_8_bits_is_made_from_data_and_measured(model, data, tmp_path, export_here):
    with pytest.raises(ValueError, match=r"'int8_full' needs `calibration_data` \(--calibration-data\)"):
        export_here(model, tmp_path / "b", formats="tflite", quantize="int8_full")
    words, random = " ".join(TEXT).split(), np.random.default_rng(0)
    varied = tmp_path / "varied.tsv"
    varied.write_text("".join(f"{' '.join(random.choice(words, size))}\ta\n" for size in random.integers(1, 12, 60)))
    export_here(model, tmp_path / "b", formats="tflite", quantize="int8_full", calibration_data=varied, eval_data=data,
                eval_limit=1.0)
    bundle = read_bundle(tmp_path / "b")
    artifact = bundle.find("tflite", "int8_full")
    assert artifact.verification["passed"] and artifact.record["operators"]["QUANTIZE"] > 0
    assert artifact.verification["rows"][-1]["check"].startswith("accuracy")
    assert open_bundle(bundle, "tflite", "int8_full")(TEXT[0])["label"] in "ab"


def test_bad_arguments_are_refused_before_any_work(model, data, tmp_path, capsys):
    with pytest.raises(ValueError, match="need `eval_data`"):
        export(model, tmp_path / "b", eval_limit=0.1)
    with pytest.raises(ValueError, match="`eval_limit` must be at least 0"):
        export(model, tmp_path / "b", formats="onnx", quantize="int8", eval_data=data, eval_limit=-1.0)
    with pytest.raises(FileNotFoundError):
        export(model, tmp_path / "b", formats="onnx", quantize="int8", eval_data=tmp_path / "missing.tsv")
    assert list(tmp_path.iterdir()) == [data]
    assert main(["export", str(tmp_path), str(tmp_path / "b"), "--eval-data", str(tmp_path / "missing.tsv")]) == 2
    assert "missing.tsv" in capsys.readouterr().err

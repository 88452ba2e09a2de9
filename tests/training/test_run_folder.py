"""The folder of a run: which may be used, what resuming compares, how it is finished."""
import json

import pytest

import kzoo
from kzoo.training.options import TrainOptions
from kzoo.training.run_folder import check_out, check_same, finish, prepare, read_record

FILES = {"data": ["a.txt"], "valid": None}
IDENTITY = {"model": "preset tiny", "config": {"num_layers": 2, "dropout": None}}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    prepare(folder, IDENTITY, TrainOptions(steps=5), FILES)
    return folder


def test_a_new_run_needs_a_free_name(tmp_path, run):
    assert check_out(tmp_path / "new", resume=False, overwrite=False) is False
    assert check_out(tmp_path / "new", resume=True, overwrite=False) is False  # nothing there yet: it starts
    assert check_out(run, resume=True, overwrite=False) is True
    assert check_out(run, resume=False, overwrite=True) is False
    with pytest.raises(FileExistsError, match="already exists"):
        check_out(run, resume=False, overwrite=False)
    (tmp_path / "file").write_text("x")
    for resume in (False, True):
        with pytest.raises(OSError, match="file"):
            check_out(tmp_path / "file" / "run", resume=resume, overwrite=False)


def test_the_record_comes_back(run):
    record = read_record(run)
    assert record["identity"] == IDENTITY and record["state"] == "running"
    assert TrainOptions.from_dict(record["resolved"]).steps == 5
    assert record["files"] == FILES
    check_same(run, record["identity"], IDENTITY, defaults={})


@pytest.mark.parametrize("now, words", [
    ({**IDENTITY, "config": {"num_layers": 3, "dropout": None}}, "config.num_layers was 2 and is now 3"),
    ({**IDENTITY, "model": "x", "config": {"num_layers": 2, "dropout": 0.1}}, "model was .*; config.dropout was None"),
    ({"model": "preset tiny", "config": {"num_layers": 2}}, "config.dropout was None and is now None"),
    ({**IDENTITY, "new": 1}, "new was None and is now 1"),
])
def test_what_differs_is_named(run, now, words):
    with pytest.raises(ValueError, match=f"cannot be resumed: {words}"):
        check_same(run, IDENTITY, now, defaults={})


def test_what_is_newer_than_the_run_had_its_default(run):
    now = {**IDENTITY, "config": {**IDENTITY["config"], "new": 7}}
    check_same(run, IDENTITY, now, defaults={"config": {"new": 7, "num_layers": 12}})
    for defaults in ({}, {"config": {"new": 8}}, {"model": {"new": 7}}):
        with pytest.raises(ValueError, match="config.new was .* and is now 7"):
            check_same(run, IDENTITY, now, defaults)


def test_a_damaged_record_is_refused(run):
    (run / "training.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="training.json is of another format"):
        read_record(run)
    (run / "training.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_record(run)


def test_finishing_leaves_a_model_and_its_record(run):
    model = kzoo.create("gpt2-nano", num_layers=1, num_heads=2, hidden_dim=6)
    (run / "tokens").mkdir()
    (run / ".model.partial").mkdir()  # of a process that was killed here
    (run / ".model.partial" / "model.safetensors").write_text("half")
    finish(run, model, read_record(run), {"loss": 1.5})
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "model.safetensors", "training.json"]
    assert json.loads((run / "training.json").read_text())["results"] == {"loss": 1.5}
    assert read_record(run)["state"] == "finished"
    assert kzoo.load(run).config == model.config

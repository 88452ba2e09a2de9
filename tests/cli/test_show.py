"""`kzoo list` and `kzoo info`."""
import json

import numpy as np
import pytest
import safetensors.numpy

from kzoo import registry
from kzoo.cli import main
from kzoo.cli.show import describe


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"kzoo": {"format": 1, "family": "gpt2", "task": "text-generation", "config": {"num_layers": 2}}}
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file({"a": np.zeros((3, 5), "float32"), "b": np.zeros(7, "float32")},
                                folder / "model.safetensors")
    return folder


@pytest.fixture
def presets(monkeypatch):
    rows = [{"name": "tiny", "family": "gpt2", "parameters": 1700, "tasks": ["text-generation"], "source": "made up"}]
    monkeypatch.setattr("kzoo.cli.start.start_backend", lambda: None)
    monkeypatch.setattr(registry, "list_models", lambda: rows)
    return rows


def test_presets_as_a_table(presets, capsys):
    assert main(["list"]) == 0
    assert capsys.readouterr().out == ("name  family  parameters  tasks            source\n"
                                       "tiny  gpt2          1.7k  text-generation  made up\n")


def test_presets_as_json(presets, capsys):
    main(["list", "--json"])
    assert json.loads(capsys.readouterr().out) == presets


def test_a_run(run_folder, capsys):
    found = describe(run_folder)
    assert (found["kind"], found["family"], found["task"]) == ("run", "gpt2", "text-generation")
    assert found["parameters"] == 3 * 5 + 7 and found["config"] == {"num_layers": 2}
    assert found["size"] == sum(found["files"].values())
    assert main(["info", str(run_folder)]) == 0
    out = capsys.readouterr().out
    assert "kind        run\n" in out and "parameters  22\n" in out and "num_layers  2" in out
    assert main(["info", str(run_folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**found, "path": str(run_folder)}


def test_a_run_that_has_no_weights_yet(run_folder):
    (run_folder / "model.safetensors").unlink()
    assert describe(run_folder)["parameters"] is None


def test_an_unfinished_run(run_folder):
    (run_folder / "config.json").unlink()
    record = {"state": "running", "identity": {"task": "text-generation", "config": {"num_layers": 2}}}
    (run_folder / "training.json").write_text(json.dumps(record))
    found = describe(run_folder)
    assert (found["kind"], found["task"], found["config"]) == ("unfinished run", "text-generation", {"num_layers": 2})
    (run_folder / "training.json").write_text("{}")
    with pytest.raises(ValueError, match="training.json has no `identity`"):
        describe(run_folder)


def test_a_checkpoint(run_folder):
    (run_folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 2}))
    found = describe(run_folder)
    assert (found["kind"], found["family"], found["config"]["n_layer"]) == ("checkpoint", "gpt2", 2)


@pytest.mark.parametrize("name, data, words", [
    ("model.safetensors", b"\x10", "model.safetensors is not a sound safetensors file"),
    ("config.json", b"{", "config.json is not valid JSON"),
    ("manifest.json", b"{}", "manifest.json: `format` is missing"),
])
def test_a_damaged_file_is_named(run_folder, capsys, name, data, words):
    (run_folder / name).write_bytes(data)
    assert main(["info", str(run_folder)]) == 2
    assert words in capsys.readouterr().err


def test_another_folder_is_refused(tmp_path, capsys):
    assert main(["info", str(tmp_path)]) == 2
    assert "it has neither config.json nor manifest.json" in capsys.readouterr().err

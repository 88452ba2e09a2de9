"""Subprocesses: whatever happens in one is a result or one clear error."""
import json
import os
import pathlib

import pytest

from kzoo.errors import CheckFailed
from kzoo.export.process import run_worker


def test_an_error_of_the_input_is_passed_on(tmp_path):
    with pytest.raises(ValueError, match="Unknown format 'onxx'. Did you mean 'onnx'"):
        run_worker("converting", tmp_path, command="convert", format="onxx", run=str(tmp_path), bundle=str(tmp_path))


def test_any_other_error_is_one_sentence_and_the_last_lines(tmp_path):
    with pytest.raises(CheckFailed, match="An error while converting, KeyError: 'nothing'. Its last lines:\n"):
        run_worker("converting", tmp_path, command="nothing")


@pytest.mark.parametrize(("code", "message"), [
    ("os.kill(os.getpid(), 9)", "killed by SIGKILL, most likely because memory ran out"),
    ("print('the reason', flush=True); os._exit(3)", "ended with status 3 and no result. Its last lines:\nthe reason"),
])
def test_a_crash_is_a_clear_error(tmp_path, monkeypatch, code, message):
    (tmp_path / "sitecustomize.py").write_text(f"import os\n{code}\n")  # Python runs this when it starts
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CheckFailed) as error:
        run_worker("converting", tmp_path / "work", command="check")
    assert message in str(error.value)


def test_the_working_directory_does_not_matter(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="Unknown format"):
        run_worker("converting", pathlib.Path("work"), command="convert", format="x", run=".", bundle=".")


def test_the_worker_does_not_inherit_the_backend(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    (tmp_path / "sitecustomize.py").write_text("import os; print(os.environ['KERAS_BACKEND'], flush=True); os._exit(3)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), ""]))
    with pytest.raises(CheckFailed, match="Its last lines:\ntensorflow"):
        run_worker("converting", tmp_path / "work", command="check")


def test_the_spec_names_the_result(tmp_path):
    with pytest.raises(CheckFailed):
        run_worker("converting", tmp_path, command="nothing")
    assert json.loads((tmp_path / "spec.json").read_text())["result"] == str(tmp_path / "result.json")


def test_an_error_of_the_system_keeps_its_number(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import kzoo.export.worker as worker\n"
        "def full(spec):\n    raise OSError(28, 'No space left on device', 'model.onnx')\n"
        "worker.COMMANDS['check'] = full\n"
        "import os, sys\nworker.main(sys.orig_argv[-1:])\nos._exit(0)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(OSError, match="No space left on device: 'model.onnx'") as error:
        run_worker("converting", tmp_path / "work", command="check")
    assert error.value.errno == 28

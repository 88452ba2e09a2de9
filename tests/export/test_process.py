"""Subprocesses: whatever happens in one is a result or one clear error."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from kzoo.errors import CheckFailed
from kzoo.export.process import run_worker
from kzoo.files import atomic_folder


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


def test_a_worker_that_does_not_end_is_ended(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import time\nprint('busy', flush=True)\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CheckFailed, match="process verifying x was not done after 0.5 seconds and was ended"):
        run_worker("verifying x", tmp_path / "work", timeout=0.5, command="check")


def test_what_libraries_write_by_the_way_goes_with_the_rest(tmp_path, monkeypatch):
    code = "import os, tempfile; print(tempfile.gettempdir(), flush=True); os._exit(3)"
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(CheckFailed, match=f"Its last lines:\n{tmp_path / 'work' / 'tmp'}$"):
        run_worker("converting", tmp_path / "work", command="check")


# An export whose worker reads recorded answers from a pipe that nobody fills.
EXPORT = """
import os, signal, subprocess, sys
from kzoo.export import process
from kzoo.files import atomic_folder

def start(command, **options):
    return popen([command[0], "-c", "import sys; from kzoo.export import worker; worker.main(sys.argv[1:])",
                  command[-1]], **options)

if sys.argv[2:]:
    popen, subprocess.Popen = subprocess.Popen, start
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run in the background, where Ctrl-C is ignored
with atomic_folder(sys.argv[1], overwrite=True) as work:
    os.mkfifo(work / "answers")
    print(work, flush=True)
    process.run_worker("verifying onnx", work / ".work", command="check", manifest={}, bundle=str(work), timed=False,
                       artifact={"runtime": "onnx", "variant": "none", "file": "a", "files": []},
                       golden=str(work / "answers"))
"""


@pytest.fixture
def kill_export(tmp_path):
    """A function that kills such an export while its worker is at work; returns whether the worker ends in time."""
    workers = []

    def kill(number, *words, patience=60):
        command = [sys.executable, "-c", EXPORT, str(tmp_path / "bundle"), *words]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                   cwd=pathlib.Path(__file__).resolve().parents[2])
        assert process.stdout.readline()  # it has made its folder
        started = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_for(lambda: started.read_text().split(), 300)
        workers.append(int(started.read_text().split()[0]))
        time.sleep(0.3)
        assert is_alive(workers[-1])
        process.send_signal(number)
        process.wait(patience + 60)
        process.stdout.close()
        return wait_for(lambda: not is_alive(workers[-1]), patience)

    yield kill
    for worker in workers:
        if is_alive(worker):
            os.kill(worker, signal.SIGKILL)


def is_alive(worker):
    try:
        return pathlib.Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(happened, patience):
    end = time.monotonic() + patience
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the worker is found through Linux's /proc")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_killed_export_takes_its_worker_along(kill_export, tmp_path, name):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old").write_text("old")
    assert kill_export(getattr(signal, name))
    assert (tmp_path / "bundle" / "old").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == (1 if name == "SIGINT" else 2)  # Ctrl-C cleans up by itself
    with atomic_folder(tmp_path / "bundle", overwrite=True) as work:
        (work / "new").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["bundle", "new"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="the worker is found through Linux's /proc")
def test_a_worker_that_does_not_watch_would_stay(kill_export):
    assert not kill_export(signal.SIGKILL, "unwatched", patience=1)

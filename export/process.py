"""Run the worker and turn whatever happens to it into a result or one clear error."""
import builtins
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys

import kzoo
from kzoo.errors import CheckFailed
from kzoo.files import read_json, write_json

LAST_LINES = 12
# Exceptions that mean the same to the caller as they did in the worker.
PASSED_ON = ("ValueError", "TypeError", "ImportError", "ModuleNotFoundError", "FileNotFoundError", "PermissionError",
             "OSError", "MemoryError")


def run_worker(what, folder, timeout=None, **spec):
    """One run of `kzoo.export.worker`.

    Args:
        what: for messages, for example "converting to onnx".
        folder: an empty folder for its files, temporary ones too, and its working directory.
        timeout: seconds it may take; None means any time.
        spec: for the worker; paths absolute.

    Returns: the worker's result.
    Raises: the worker's own exception where it is about the input; CheckFailed for anything else, crashes included.
    """
    folder = pathlib.Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    result, log, temporary = folder / "result.json", folder / "log.txt", folder / "tmp"
    temporary.mkdir(exist_ok=True)
    result.unlink(missing_ok=True)
    write_json(folder / "spec.json", {**spec, "result": str(result)})
    command = [sys.executable, "-m", "kzoo.export.worker", str(folder / "spec.json")]
    environment = _environment(temporary, spec["command"])
    # The worker ends when its standard input does: with this process, however that ends.
    with open(log, "wb") as output, subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=output,
            stderr=subprocess.STDOUT) as process:
        try:
            status = process.wait(timeout)
        except BaseException as error:
            process.kill()
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise CheckFailed(f"The process {what} was not done after {timeout:g} seconds and was ended."
                                  f"{_tail(log)}") from None
            raise
    if status != 0 or not result.is_file():
        raise CheckFailed(f"The process {what} {_ending(status)}.{_tail(log)}")
    answer = read_json(result)
    if "error" in answer:
        kind, message = answer["error"]["type"], answer["error"]["message"]
        if answer["error"]["errno"] is not None:  # of the system, for example a full disk
            raise OSError(answer["error"]["errno"], message, answer["error"]["file"])
        if kind in PASSED_ON:
            raise getattr(builtins, kind)(message or f"{kind} while {what}")
        raise CheckFailed(f"An error while {what}, {kind}: {message.strip()[:500]}.{_tail(log)}")
    return answer


def _environment(temporary, command):
    """The parent's, with this kzoo importable, conversions on the CPU, TensorFlow quiet.

    What libraries write by the way goes to `temporary`: a killed process leaves it, and it is removed with the rest.
    """
    # kzoo may lie in a checkout; what the parent can import through its own sys.path, the worker must find too.
    root = str(pathlib.Path(kzoo.__file__).resolve().parents[1])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    # With oneDNN, TensorFlow keeps what it frees: conversions took up to the weights' size more for each copy that they
    # were done with. Where answers are timed it stays on.
    memory = {"TF_ENABLE_ONEDNN_OPTS": "0"} if command == "convert" else {}
    backend = {"KERAS_BACKEND": "tensorflow"} if importlib.util.find_spec("tensorflow") else {}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in paths), **backend,
            **memory, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2",
            "PYTHONIOENCODING": "utf-8", **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))}


def _ending(status):
    if status < 0:
        name = signal.Signals(-status).name
        why = ", most likely because memory ran out" if name == "SIGKILL" else ""
        return f"was killed by {name}{why}"
    return f"ended with status {status} and no result"


def _tail(log):
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LAST_LINES:]
    return " Its last lines:\n" + "\n".join(lines) if lines else ""

"""One conversion, verification or measurement in a process of its own: memory comes back, a crash is an error message.

    python -m kzoo.export.worker SPEC.json

reads what to do from SPEC.json and writes the result to the file that it names.
"""
import contextlib
import ctypes
import gc
import importlib
import json
import os
import pathlib
import signal
import sys
import threading
import time

from kzoo.export.memory import peak_memory, watch
from kzoo.files import write_json


def main(argv):
    spec = json.loads(pathlib.Path(argv[0]).read_text(encoding="utf-8"))
    start = time.perf_counter()
    try:
        result = COMMANDS[spec["command"]](spec)
    except Exception as error:  # told to the parent, which says it in one line; the traceback goes to its log
        import traceback

        traceback.print_exc()
        result = {"error": {"type": type(error).__name__, "message": getattr(error, "strerror", None) or str(error),
                            "errno": getattr(error, "errno", None), "file": getattr(error, "filename", None)}}
    write_json(spec["result"], {**result, "seconds": time.perf_counter() - start, "peak_memory": peak_memory()})
    return 0


def convert(spec):
    """Write one artifact; returns its files."""
    from kzoo.export.target import get_target

    # Before TensorFlow: a format may need what has to be loaded first.
    target = get_target(spec["format"], spec.get("portable", False), spec.get("static_length"),
                        spec.get("calibration_data"))
    from kzoo.saving import load

    def model():
        return load(spec["run"], dtype="float32")  # a mixed-precision policy has no place in a file

    # Made in the call, so that a target that is done with the model can free it.
    files = target.write(model(), pathlib.Path(spec["bundle"]), spec["quantize"])
    return {"files": list(map(str, files))}


def check(spec):
    """Compare one artifact with recorded answers and audit it; where asked for, time it and watch its memory."""
    from kzoo.export.artifact import Artifact, Bundle
    from kzoo.export.golden import load_golden
    from kzoo.export.latency import measure
    from kzoo.export.quality import Reference, check_quality
    from kzoo.export.verify import audit_artifact, compare_artifact, open_artifact

    artifact = Artifact(**spec["artifact"])
    bundle = Bundle(pathlib.Path(spec["bundle"]), spec["manifest"], {}, (artifact,))
    golden = load_golden(pathlib.Path(spec["golden"]))
    _import_runtime(artifact.runtime)

    def use():
        """As someone who opens the file for one text; comparisons, which call it in every way, come later."""
        start = time.perf_counter()
        session, rows = open_artifact(bundle, artifact)
        opened = time.perf_counter() - start
        try:
            return session, rows, opened, measure(session) if session and spec["timed"] else {}
        except Exception:  # the comparisons will say what is wrong
            return session, rows, opened, {}

    (session, rows, opened, latency), memory = watch(use)
    if session:
        rows += compare_artifact(bundle, artifact, golden, session)
    audited, record = audit_artifact(bundle, artifact)
    rows += audited
    if spec.get("quality") and all(row["passed"] for row in rows):
        names = ("check", "value", "limit", "passed", "note")
        rows.append({"artifact": artifact.name,
                     **dict(zip(names, check_quality(session, Reference(**spec["quality"])), strict=True))})
    passed = all(row["passed"] for row in rows)
    return {"rows": rows, "latency": (latency or measure(session)) if passed and spec["timed"] else {},
            "record": {**record, "load_seconds": opened, "memory": memory}}


def bench(spec):
    """Open one artifact and measure it as `kzoo.export.latency.open_and_measure` does."""
    from kzoo.export import open_bundle
    from kzoo.export.latency import open_and_measure

    _import_runtime(spec["runtime"])
    return open_and_measure(lambda: open_bundle(spec["bundle"], runtime=spec["runtime"], variant=spec["variant"]),
                            **spec["options"])


def _import_runtime(runtime):
    """Before memory is watched: a runtime's own code is no property of an artifact."""
    from kzoo.export.session import RUNTIMES, TEXT_RUNTIMES

    with contextlib.suppress(ImportError):  # one that is missing is told when the file is opened
        importlib.import_module({**RUNTIMES, **TEXT_RUNTIMES}[runtime][0])


def end_with_the_parent():
    """End this process when the one that started it does, which would leave nobody to read the result or to clean up.

    The parent holds the other end of the standard input.
    """
    def wait():
        while os.read(0, 4096):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    if sys.platform == "linux":  # at once, also from within a library that lets no thread of Python run
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


COMMANDS = {"convert": convert, "check": check, "bench": bench}

if __name__ == "__main__":
    # Converters leave millions of objects that stay; to look them all over every few hundred new ones takes a sixth of
    # the time.
    gc.set_threshold(100_000, 20, 50)
    end_with_the_parent()
    sys.exit(main(sys.argv[1:]))

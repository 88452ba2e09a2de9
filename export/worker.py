"""One conversion or one verification in a process of its own: memory comes back, a crash is an error message.

    python -m kzoo.export.worker SPEC.json

reads what to do from SPEC.json and writes the result to the file that it names.
"""
import json
import pathlib
import sys
import time

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

    target = get_target(spec["format"])  # before TensorFlow: a format may need what has to be loaded first
    from kzoo.saving import load

    def model():
        return load(spec["run"], dtype="float32")  # a mixed-precision policy has no place in a file

    # Made in the call, so that a target that is done with the model can free it.
    files = target.write(model(), pathlib.Path(spec["bundle"]), spec["quantize"])
    return {"files": list(map(str, files))}


def check(spec):
    """Compare one artifact with the recorded answers, and time it; returns rows and speeds."""
    from kzoo.export.artifact import GOLDEN, Artifact, Bundle
    from kzoo.export.golden import load_golden
    from kzoo.export.latency import measure
    from kzoo.export.quality import Reference, check_quality
    from kzoo.export.verify import verify_artifact

    artifact = Artifact(**spec["artifact"])
    bundle = Bundle(pathlib.Path(spec["bundle"]), spec["manifest"], {}, (artifact,))
    rows, session = verify_artifact(bundle, artifact, load_golden(bundle.folder / GOLDEN))
    if spec.get("quality") and all(row["passed"] for row in rows):
        names = ("check", "value", "limit", "passed", "note")
        rows.append({"artifact": artifact.name,
                     **dict(zip(names, check_quality(session, Reference(**spec["quality"])), strict=True))})
    for row in rows:
        if row["passed"] is None:  # while exporting there is no such thing as a check that could not be run
            row["passed"] = False
    return {"rows": rows, "latency": measure(session) if all(row["passed"] for row in rows) else {}}


def peak_memory():
    """The most bytes this process had in memory; None where the system does not say."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            # Not getrusage, whose maximum counts what the parent had when this process was forked off.
            return next(1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


COMMANDS = {"convert": convert, "check": check}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

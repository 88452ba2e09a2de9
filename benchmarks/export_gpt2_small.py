"""GPT-2 small (random weights) to SavedModel, ONNX and TFLite, verified: time, size and peak memory."""
import json
import sys
import time

from common import ROOT, WORK, row

WEIGHTS = 124_439_808 * 4


def run(arguments):
    sys.path.insert(0, str(ROOT))
    import kzoo
    from kzoo.export import export

    model = kzoo.create("gpt2-small")
    started = time.monotonic()
    export(model, WORK / "gpt2-small", overwrite=True)
    seconds = time.monotonic() - started
    manifest = json.loads((WORK / "gpt2-small" / "manifest.json").read_text())
    sizes = {file["path"]: file["size"] for file in manifest["files"]}
    rows = [row("export", "three formats, verified", round(seconds), "s", "<= 360 s")]
    for artifact in manifest["artifacts"]:
        name = artifact["runtime"]
        size = sum(sizes[path] for path in artifact["files"] if path.startswith(artifact["file"]))
        memory = artifact["peak_memory"]
        rows += [
            row("export", f"{name}: conversion", round(artifact["seconds"], 1), "s", "<= 40 s" if name == "onnx" else ""),
            row("export", f"{name}: size", round(size / 1e6, 1), "MB", "<= 505 MB" if name == "onnx" else ""),
            row("export", f"{name}: peak memory", round(memory / WEIGHTS, 1), "x the weights", "<= 10 x",
                f"{memory / 1e9:.1f} GB")]
    return rows

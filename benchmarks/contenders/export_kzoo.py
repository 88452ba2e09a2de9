"""One export of a model with random weights, timed: python export_kzoo.py PRESET OVERRIDES FORMATS BUNDLE [CHECKPOINT]

FORMATS are names with commas, or a dict with more options of `export`. With CHECKPOINT the same model is also saved
there, outside of the time, in Hugging Face's form for the peers.
"""
import json
import pathlib
import sys
import time

import keras
from serving import answer

import kzoo
from kzoo.export import export

preset, overrides, options, folder = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
options = json.loads(options) if options.startswith("{") else {"formats": options.split(",")}
keras.utils.set_random_seed(0)
model = kzoo.create(preset, **overrides)
if len(sys.argv) > 5:
    kzoo.save(model, sys.argv[5], format="hugging_face", overwrite=True)
lines = []  # (time, line of progress)


def progress(line):
    lines.append((time.perf_counter(), line))
    print(line, file=sys.stderr, flush=True)


start = time.perf_counter()
bundle = export(model, folder, overwrite=True, progress=progress, **options)
seconds = time.perf_counter() - start
artifacts = {}
for artifact in bundle.artifacts:
    # The line that says that it passed comes right after its verification, which began at the line before.
    passed = next(i for i, (_, line) in enumerate(lines) if line.startswith(f"{artifact.name}: passed"))
    artifacts[artifact.name] = {
        "seconds": artifact.record["seconds"], "verification_seconds": lines[passed][0] - lines[passed - 1][0],
        "peak_memory": artifact.record["peak_memory"],
        "size": sum((pathlib.Path(folder) / name).stat().st_size for name in artifact.files)}
answer({"seconds": seconds, "artifacts": artifacts, "weights": 4 * model.count_params()})

"""One export of a model with random weights, timed: python export_kzoo.py PRESET OVERRIDES FORMATS BUNDLE [CHECKPOINT]

With CHECKPOINT the same model is also saved there, outside of the time, in Hugging Face's form for the peers.
"""
import json
import pathlib
import sys
import time

import keras
from serving import answer

import kzoo
from kzoo.export import export

preset, overrides, formats, folder = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3].split(","), sys.argv[4]
keras.utils.set_random_seed(0)
model = kzoo.create(preset, **overrides)
if len(sys.argv) > 5:
    kzoo.save(model, sys.argv[5], format="hugging_face", overwrite=True)
lines = []  # (time, line of progress)


def progress(line):
    lines.append((time.perf_counter(), line))
    print(line, file=sys.stderr, flush=True)


start = time.perf_counter()
bundle = export(model, folder, formats=formats, overwrite=True, progress=progress)
seconds = time.perf_counter() - start
artifacts = {}
for artifact in bundle.artifacts:
    # The line that says that it passed comes right after its verification, which began at the line before.
    passed = next(i for i, (_, line) in enumerate(lines) if line.startswith(f"{artifact.name}: passed"))
    artifacts[artifact.runtime] = {
        "seconds": artifact.record["seconds"], "verification_seconds": lines[passed][0] - lines[passed - 1][0],
        "peak_memory": artifact.record["peak_memory"],
        "size": sum((pathlib.Path(folder) / name).stat().st_size for name in artifact.files)}
answer({"seconds": seconds, "artifacts": artifacts, "weights": 4 * model.count_params()})

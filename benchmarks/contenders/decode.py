"""The decoding task, the clock, and whether the ids are those of the others."""
import json
import pathlib
import statistics
import time

import numpy as np

PROMPT = np.random.default_rng(0).integers(0, 50000, 32).tolist()
NEW = 64


def report(generate, name):
    """`generate(prompt)` gives the new ids; prints tokens per second, and stores the ids beside the others'."""
    ids = [int(i) for i in generate(PROMPT)]
    times = []
    for _ in range(5):
        started = time.perf_counter()
        generate(PROMPT)
        times.append(time.perf_counter() - started)
    pathlib.Path(f"ids_{name}.json").write_text(json.dumps(ids))
    print("RESULT", NEW / statistics.median(times))

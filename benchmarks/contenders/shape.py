"""The shape every training contender uses, and how the clock runs: warm up, then the best of three stretches."""
import time

import numpy as np

LAYERS, HEADS, WIDTH, LENGTH, BATCH, VOCABULARY = 4, 4, 128, 64, 12, 65
STEPS = 200


def tokens(steps=STEPS):
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (steps * BATCH, LENGTH + 1)).astype("int32")
    return ids[:, :-1], ids[:, 1:]


def report(train, warm_up=None):
    """`train()` runs STEPS steps; prints tokens per second."""
    (warm_up or train)()
    times = []
    for _ in range(3):
        started = time.perf_counter()
        train()
        times.append(time.perf_counter() - started)
    print("RESULT", STEPS * BATCH * LENGTH / sorted(times)[1])

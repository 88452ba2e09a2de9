"""One pass over a long text, forwards or with training: python read_once.py PRESET FIELDS LENGTH train|forward"""
import json
import os
import resource
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from serving import answer

import kzoo

preset, fields, length, work = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
keras.utils.set_random_seed(0)
model = kzoo.create(preset, task="text-classification", labels=("no", "yes"), max_sequence_length=length, **fields)
model.compile(optimizer="adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
ids = np.random.default_rng(0).integers(5, model.config.vocabulary_size, (1, length)).astype("int32")
step = (lambda: model.train_on_batch({"token_ids": ids}, np.array([1]))) if work == "train" else (
    lambda: model.predict_on_batch({"token_ids": ids}))
step()
start = time.perf_counter()
found = step()
assert np.isfinite(found).all()
answer({"seconds": time.perf_counter() - start,
        "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "parameters": model.count_params()})

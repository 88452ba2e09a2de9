"""Reading a text token by token: python evaluate_memory.py memory|window SPEC

With a memory every segment is read once, after what the ones before left. Without, every token asks for the whole
window before it anew, as a model of fixed context must to give each token as much of its past.
"""
import json
import os
import sys
import time

import numpy as np
from serving import serve

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from keras import ops

import kzoo
from kzoo.backend import compile_function

kind, spec = sys.argv[1], json.loads(sys.argv[2])
window, segment = spec["window"], spec["segment"]
model = kzoo.create("transformer-xl-nano", memory_length=window, **spec["fields"])
backbone = model.backbone
text = np.random.default_rng(0).integers(0, model.config.vocabulary_size, (1, window + segment)).astype("int32")


def read_segment(token_ids, memory):
    hidden_states, memory = backbone.forward({"token_ids": token_ids}, memory, training=False)
    return backbone.logits(hidden_states), memory


def read_window(token_ids):
    hidden_states, _ = backbone.forward({"token_ids": token_ids}, training=False)
    return backbone.logits(hidden_states[:, -1:])


if kind == "memory":
    step, memory, tokens = compile_function(model, read_segment), backbone.empty_cache(1), segment
    arguments = (ops.convert_to_tensor(text[:, :segment]), memory)
else:
    step, tokens = compile_function(model, read_window), 1
    arguments = (ops.convert_to_tensor(text[:, :window]),)


def measure():
    start = time.perf_counter()
    for _ in range(spec["calls"]):
        answer = step(*arguments)
        ops.convert_to_numpy(answer[0])  # waits for it
    return {"milliseconds": 1000 * (time.perf_counter() - start) / (spec["calls"] * tokens)}


measure()
serve("kzoo's environment", ["keras", "tensorflow", "numpy"], measure, parameters=model.count_params())

"""kzoo's Longformer on texts of several lengths: python read_long_kzoo.py SPEC"""
import json
import sys
import time

import numpy as np
import tensorflow as tf
from serving import serve

import kzoo
from kzoo.backend import compile_function

spec = json.loads(sys.argv[1])
tf.config.threading.set_intra_op_parallelism_threads(spec["threads"])
tf.config.threading.set_inter_op_parallelism_threads(spec["threads"])
model = kzoo.create("longformer-tiny" if spec["toy"] else "longformer-base-4096", max_global_tokens=1).backbone
read = compile_function(model, lambda inputs: model.forward(inputs)[0])


def inputs(length):
    ids = np.random.default_rng(0).integers(5, 50000, (1, length)).astype("int32")
    return {"token_ids": tf.constant(ids), "global_mask": tf.constant(np.arange(length)[None] == 0)}


texts = {length: inputs(length) for length in spec["lengths"]}


def measure():
    seconds = {}
    for length, text in texts.items():
        begin = time.perf_counter()
        read(text).numpy()
        seconds[str(length)] = time.perf_counter() - begin
    return seconds


measure()
serve("kzoo's environment", ["keras", "tensorflow"], measure)

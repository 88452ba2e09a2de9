"""A Reformer reading one long text: python read_reformer_kzoo.py SPEC"""
import json
import sys
import time

import numpy as np
import tensorflow as tf
from keras import ops
from serving import serve

import kzoo
from kzoo.backend import compile_function

spec = json.loads(sys.argv[1])
tf.config.threading.set_intra_op_parallelism_threads(spec["threads"])
model = kzoo.create(
    "reformer-nano", task="text-generation", vocabulary_size=spec["vocabulary"], num_layers=spec["layers"],
    num_heads=spec["heads"], head_dim=spec["head_dim"], hidden_dim=spec["width"], intermediate_dim=spec["inner"],
    max_sequence_length=spec["axes"][0] * spec["axes"][1], num_hashes=spec["rounds"], num_buckets=spec["buckets"],
    lsh_chunk_length=spec["chunk"], local_chunk_length=spec["chunk"], axial_shape=spec["axes"], axial_dims=spec["dims"])
ids = ops.convert_to_tensor(
    np.random.default_rng(0).integers(0, spec["vocabulary"], (1, spec["length"])).astype("int32"))
read = compile_function(model, lambda token_ids: model({"token_ids": token_ids}), jit=True)


def measure():
    start = time.perf_counter()
    ops.convert_to_numpy(read(ids))
    return {"seconds": time.perf_counter() - start}


for _ in range(2):
    measure()
serve("kzoo's environment", ["keras", "tensorflow"], measure)

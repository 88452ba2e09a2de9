"""Reading texts with an encoder through a bundle's ONNX file: python read_texts_kzoo.py BUNDLE SPEC"""
import json
import sys
import time

import numpy as np
from serving import serve

from kzoo.export import open_bundle

bundle, spec = sys.argv[1], json.loads(sys.argv[2])
# Waiting threads spin, as those of every peer do by default; ours sleep unless asked, to be kind to a shared machine.
session = open_bundle(bundle, runtime="onnx", variant=spec["variant"], threads=spec["threads"], spin=True)
token_ids = np.random.default_rng(0).integers(*spec["ids"], (spec["batch_size"], spec["length"]))
inputs = {"token_ids": token_ids, "padding_mask": np.ones_like(token_ids), "segment_ids": np.zeros_like(token_ids)}


def measure():
    start = time.perf_counter()
    for _ in range(spec["calls"]):
        outputs = session.run("forward", inputs)
    return {"milliseconds": 1000 * (time.perf_counter() - start) / spec["calls"], "logits": outputs["logits"].tolist()}


measure()
serve("kzoo's environment", ["onnxruntime", "numpy"], measure)

"""Greedy decoding through a bundle's ONNX file: python decode_kzoo.py BUNDLE SPEC"""
import json
import sys
import time

import onnxruntime
from serving import serve

from kzoo.export import open_bundle

bundle, spec = sys.argv[1], json.loads(sys.argv[2])
inside = [0.0]  # seconds within the runtime
run_with_ort_values = onnxruntime.InferenceSession.run_with_ort_values


def timed(*args, **kwargs):
    start = time.perf_counter()
    try:
        return run_with_ort_values(*args, **kwargs)
    finally:
        inside[0] += time.perf_counter() - start


onnxruntime.InferenceSession.run_with_ort_values = timed  # two readings of the clock a token
# Waiting threads spin, as those of every peer do by default; ours sleep unless asked, to be kind to a shared machine.
session = open_bundle(bundle, runtime="onnx", variant=spec["variant"], threads=spec["threads"], spin=True)


def measure():
    inside[0], start = 0.0, time.perf_counter()
    ids = session.generate(spec["prompt"], max_new_tokens=spec["new_tokens"], min_new_tokens=spec["new_tokens"])
    seconds = time.perf_counter() - start
    return {"tokens_per_second": spec["new_tokens"] / seconds, "outside": 100 * (1 - inside[0] / seconds),
            "ids": [ids[len(spec["prompt"]):]]}


measure()
serve("kzoo's environment", ["onnxruntime", "numpy"], measure)

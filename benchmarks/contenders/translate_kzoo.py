"""Greedy translation through a bundle's ONNX files: python translate_kzoo.py BUNDLE SPEC"""
import json
import sys
import time

from serving import serve

from kzoo.export import open_bundle

bundle, spec = sys.argv[1], json.loads(sys.argv[2])
# Waiting threads spin, as those of every peer do by default; ours sleep unless asked, to be kind to a shared machine.
session = open_bundle(bundle, runtime="onnx", variant=spec["variant"], threads=spec["threads"], spin=True)


def measure():
    start = time.perf_counter()
    ids = session.generate(spec["sources"], max_new_tokens=spec["new_tokens"], min_new_tokens=spec["new_tokens"],
                           forced_eos_token_id=None)
    seconds = time.perf_counter() - start
    return {"tokens_per_second": len(ids) * spec["new_tokens"] / seconds, "ids": ids}


measure()
serve("kzoo's environment", ["onnxruntime", "numpy"], measure)

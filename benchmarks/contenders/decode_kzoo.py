"""Greedy decoding through a bundle's ONNX or TFLite file: python decode_kzoo.py BUNDLE SPEC"""
import json
import sys
import time

from serving import serve

from kzoo.export import open_bundle

bundle, spec = sys.argv[1], json.loads(sys.argv[2])
inside = [0.0]  # seconds within the runtime


def watch(cls, name):
    """Count the time in a method: two readings of the clock a token."""
    method = getattr(cls, name)

    def timed(*args, **kwargs):
        start = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            inside[0] += time.perf_counter() - start

    setattr(cls, name, timed)


if spec["runtime"] == "onnx":
    import onnxruntime

    watch(onnxruntime.InferenceSession, "run_with_ort_values")
    # Waiting threads spin, as those of every peer do by default; ours sleep unless asked, to be kind to others.
    options = {"spin": True}
else:
    from ai_edge_litert.compiled_model import CompiledModel

    watch(CompiledModel, "run_by_name")
    options = {}
session = open_bundle(bundle, runtime=spec["runtime"], variant=spec["variant"], threads=spec["threads"], **options)


def measure():
    inside[0], start = 0.0, time.perf_counter()
    ids = session.generate(spec["prompt"], max_new_tokens=spec["new_tokens"], min_new_tokens=spec["new_tokens"])
    seconds = time.perf_counter() - start
    return {"tokens_per_second": spec["new_tokens"] / seconds, "outside": 100 * (1 - inside[0] / seconds),
            "ids": [ids[len(spec["prompt"]):]]}


measure()
serve("kzoo's environment", ["onnxruntime" if spec["runtime"] == "onnx" else "ai-edge-litert", "numpy"], measure)

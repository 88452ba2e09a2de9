"""Greedy decoding of GPT-2 small (random weights), batch 1: the bundle's ONNX file and what else people run.

Prompt of 32 tokens, 64 new ones, two threads; every contender gets the same weights, and its ids are compared.
"""
import functools
import sys

from common import ROOT, WORK, in_turn, measure, ratios, row

OURS = "kzoo ONNX fp32"


def run(arguments):
    bundle, folder = WORK / "gpt2-decode", WORK / "gpt2-decode-hf"
    if not (bundle / "manifest.json").exists() or not folder.exists():
        sys.path.insert(0, str(ROOT))
        import kzoo
        from kzoo.export import export

        model = kzoo.create("gpt2-small")
        kzoo.save(model, folder, format="hugging_face", overwrite=True)
        export(model, bundle, formats=("onnx",), overwrite=True)
    peers = {"Hugging Face torch": "torch", "Optimum ONNX fp32": "optimum", "CTranslate2 fp32": "float32",
             "CTranslate2 int8": "int8"}
    contenders = {OURS: functools.partial(measure, sys.executable, "decode_kzoo.py", bundle)}
    contenders.update({name: functools.partial(measure, arguments.peers, "decode_peer.py", folder, kind)
                       for name, kind in peers.items()})
    medians = in_turn(contenders, arguments.rounds)
    rows = [row("decode", name, round(value, 1), "tokens/s") for name, value in medians.items()]
    return rows + ratios("decode", medians, OURS, ("Optimum ONNX fp32", "CTranslate2 fp32"), ">= 1.2 x")

"""Training throughput at nanoGPT's CPU size: kzoo, KerasHub and PyTorch in turn.

4 layers, 4 heads, width 128, block 64, batch 12, 65 tokens; AdamW; two threads.
"""
import functools
import sys

from common import in_turn, measure, ratios, row

OURS = "kzoo train"


def run(arguments):
    hub = arguments.keras_hub or sys.executable
    medians = in_turn({
        OURS: functools.partial(measure, sys.executable, "fit_kzoo.py", "train"),
        "kzoo model.fit": functools.partial(measure, sys.executable, "fit_kzoo.py", "fit"),
        "KerasHub, XLA": functools.partial(measure, hub, "fit_keras_hub.py", 1),
        "KerasHub, no XLA": functools.partial(measure, hub, "fit_keras_hub.py", 0),
        "torch eager": functools.partial(measure, arguments.peers, "fit_torch.py", 0),
        "torch.compile": functools.partial(measure, arguments.peers, "fit_torch.py", 1),
    }, arguments.rounds)
    rows = [row("fit", name, round(value), "tokens/s") for name, value in medians.items()]
    for ours in (OURS, "kzoo model.fit"):
        rows += ratios("fit", medians, ours, ("KerasHub, XLA", "torch.compile"), ">= 1.0 x")
    return rows

"""kzoo's own training, `kzoo.train`: with clipping, schedule, checkpoint and log. python fit_kzoo_train.py SIZES"""
import contextlib
import pathlib
import sys
import tempfile

import fitting
from serving import serve

import kzoo

sizes = fitting.read_sizes(sys.argv[1])
folder = pathlib.Path(tempfile.mkdtemp())
data = folder / "text.txt"
data.write_text(fitting.text(sizes), encoding="utf-8")
overrides = {"num_layers": sizes.layers, "num_heads": sizes.heads, "hidden_dim": sizes.width,
             "max_sequence_length": sizes.block, "dropout": 0.0}


def measure():
    """A whole new run; its tokens a second are those of the steps, as the run reports them.

    With XLA, as longer runs have it; left to itself `kzoo.train` does not compile for as few steps.
    """
    with contextlib.redirect_stdout(sys.stderr):
        run = kzoo.train("gpt2-nano", data, folder / "run", tokenizer="character", overrides=overrides, overwrite=True,
                         validation_split=0.0, steps=sizes.steps, interval=sizes.steps, batch_size=sizes.batch,
                         jit="on")
    assert run.model.config.vocabulary_size == sizes.vocabulary
    return {"tokens_per_second": run.results["tokens_per_second"]}


measure()
serve("kzoo's environment", ["keras", "tensorflow", "numpy"], measure)

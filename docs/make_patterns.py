"""Writes docs/patterns.md: what each pattern and each position works with, found by trying it.

    python docs/make_patterns.py        # takes some minutes

Every part goes into a tiny GPT-2, which is decoded with a cache, compiled by XLA and exported to every format; every
pattern meets every position and both masks.
"""
import functools
import pathlib
import re
import tempfile
import warnings

import keras
import numpy as np
from keras import ops

import kzoo
from kzoo.backend import compile_function
from kzoo.export import export
from kzoo.layers import Causal, Everything
from kzoo.layers.part_names import check_pair, part_name

PAGE = pathlib.Path(__file__).with_name("patterns.md")
SIZES = dict(vocabulary_size=61, num_layers=2, num_heads=4, hidden_dim=16, intermediate_dim=24, max_sequence_length=32,
             initializer_range=0.3, dropout=0.0)
# A pattern or position with its least settings; a test holds these to what is registered.
PATTERN_VALUES = ("full", {"name": "blockwise", "block_size": 8}, {"name": "block_local", "block_size": 8},
                  {"name": "strided", "stride": 6}, {"name": "sliding_window", "window_size": 6},
                  {"name": "block_sparse", "block_size": 4}, {"name": "hierarchical", "segment_size": 6})
POSITION_VALUES = ("learned", "sinusoidal", {"name": "axial", "shape": [4, 8], "dims": [6, 10]}, "none",
                   {"name": "rotary", "scaling": "ntk", "factor": 2.0}, "alibi", "relative", "shaw", "transformer_xl")
FORMATS = ("savedmodel", "onnx", "tflite")
COLUMNS = ("part", "cached decoding", "XLA", *FORMATS, "time and memory grow with")
COSTS = {"full": "T²", "blockwise": "T² in time, T in memory", "block_local": "T · W", "strided": "T · (l + T / l)",
         "sliding_window": "T · W", "block_sparse": "T · W", "hierarchical": "T · (W + T / W)"}
YES, NO = "yes", "no"

HEAD = """# Patterns and positions

Attention is made of parts: a mask says who may see whom, a position tells where tokens are, a pattern says which pairs
are looked at, and how. Configs of GPT-2, BERT, T5 and the Transformer name a pattern, GPT-2's a position, too, as plain
values:

    kzoo.create("gpt2-small", pattern="blockwise", max_sequence_length=8192, gradient_checkpointing=True,
                loss_chunk_size=2048)
    kzoo.create("bert-base", pattern={"name": "block_sparse", "block_size": 64, "num_random": 3})
    kzoo.create("gpt2-small", position={"name": "rotary", "scaling": "ntk", "factor": 4.0})
    kzoo.create("gpt2-small", position={"name": "axial", "shape": [32, 32], "dims": [256, 512]})

Transformer-XL, Reformer, Longformer and LED are made of patterns of their own. The position `transformer_xl` compares
`hidden_dim` numbers a pair, `TransformerXLPositions` in Transformer-XL itself `head_dim`, by a shift that needs all
keys up to the query: with another pattern or mask it is refused.

On the command line: `--set 'pattern={"name": "block_local", "block_size": 64}'`. The settings are the fields of the
classes in `kzoo.layers`. Every pattern is equal to dense attention under its own rule, wherever a row is padded.

What follows was found by `python docs/make_patterns.py`, with a GPT-2 of two layers and a context of 32 tokens: "yes"
for a cache means that logits equal those without one; for a format, that the exported file passed verification.
"no" is of models that generate: an encoder needs no cache. Weights mean the same under `blockwise` and `full`, so what
was trained with the one is exported with the other.
"""

TAIL = """
## Cost

![Memory and time of each pattern against the length](long_attention.svg)

One layer, forwards and backwards; the figures stand in [benchmarks/RESULTS.md](../benchmarks/RESULTS.md) under
"Attention patterns against the length". Hashing (`lsh`) is Reformer's.
"""


def main():
    rows = {"Patterns": [(name_of(value), *tried(pattern=value), COSTS[part_name(value)]) for value in PATTERN_VALUES],
            "Positions": [(name_of(value), *tried(position=value)) for value in POSITION_VALUES]}
    PAGE.write_text(render(rows, pairs()), encoding="utf-8")


def name_of(value):
    return f"`{part_name(value)}`"


def tried(**changes):
    """The cells of a part: for each thing, "yes" or "no" with a number for the reason."""
    keras.utils.set_random_seed(0)
    model = kzoo.create("gpt2-nano", **SIZES, **changes)
    print(changes, flush=True)
    results = [attempt(lambda: decode(model)), attempt(lambda: compile_with_xla(model))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if attempt(lambda: write(model, FORMATS)) == YES:
            results += [YES] * len(FORMATS)
        else:  # one at a time says which
            results += [attempt(functools.partial(write, model, (name,))) for name in FORMATS]
    print(results, flush=True)
    return results


def attempt(function):
    try:
        function()
        return YES
    except Exception as error:  # whatever it is, it goes into the table
        return f"{NO}: {reason(str(error))}"


def reason(text):
    """The sentence that says why; Keras prints it in bold, between others."""
    bold = re.search(r"\x1b\[1m(.*?)\x1b\[0m", text, re.S)
    return (bold[1] if bold else text).strip().splitlines()[0].split(" Received:")[0]


def write(model, formats):
    with tempfile.TemporaryDirectory() as folder:
        export(model, pathlib.Path(folder) / "bundle", formats=formats)


def decode(model):
    ids = np.random.default_rng(0).integers(0, SIZES["vocabulary_size"], (2, 32)).astype("int32")
    expected = ops.convert_to_numpy(model({"token_ids": ids}))
    for capacity in (None, 32):
        cache, found, start = model.backbone.empty_cache(2, capacity), [], 0
        for length in (13, 1, 1, 17):
            logits, cache = model.forward({"token_ids": ops.convert_to_tensor(ids[:, start:start + length])}, cache)
            found.append(ops.convert_to_numpy(logits))
            start += length
        if np.abs(np.concatenate(found, axis=1) - expected).max() > 1e-4:
            raise ValueError("other logits than without a cache")


def compile_with_xla(model):
    ids = ops.convert_to_tensor(np.arange(64).reshape(2, 32).astype("int32") % SIZES["vocabulary_size"])
    found = compile_function(model, lambda ids: model({"token_ids": ids}), jit=True)(ids)
    if np.abs(ops.convert_to_numpy(found) - ops.convert_to_numpy(model({"token_ids": ids}))).max() > 1e-4:
        raise ValueError("other logits than uncompiled")


def pairs():
    """(pattern, position, why not) of every pair that is refused."""
    refused = []
    for pattern in PATTERN_VALUES:
        for position in POSITION_VALUES:
            for mask in (Causal(), Everything()):
                try:
                    check_pair(pattern, position, mask, 4)
                except ValueError as error:
                    refused.append((part_name(pattern), part_name(position), str(error)))
    return sorted(set(refused))


def render(rows, refused):
    """The page, as text; reasons stand below their table."""
    parts = [HEAD]
    for title, table in rows.items():
        columns = COLUMNS if title == "Patterns" else COLUMNS[:-1]
        notes, lines = [], []
        for row in table:
            cells = []
            for cell in row:
                if cell.startswith(f"{NO}: "):
                    reason = cell.removeprefix(f"{NO}: ")
                    if reason not in notes:
                        notes.append(reason)
                    cell = f"no ({notes.index(reason) + 1})"
                cells.append(cell)
            lines.append(f"| {' | '.join(cells)} |")
        parts.append(f"## {title}\n")
        parts.append("\n".join([f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *lines, ""]))
        parts += [f"{number}. {note}" for number, note in enumerate(notes, 1)] + [""] * bool(notes)
    parts.append("## Pairs\n\nEvery pattern works with every position and every mask, but for these, which are refused "
                 "when a model is made:\n")
    parts += [f"- `{pattern}` with `{position}`: {why}" for pattern, position, why in refused]
    parts.append("\nBesides, `strided` needs at least 2 heads, and `rotary` an even head_dim.")
    return "\n".join(parts) + "\n" + TAIL




if __name__ == "__main__":
    main()

"""How text is answered: texts in, batches of token ids through a model, rows of its outputs back. Numpy only.

An application that runs an exported file needs neither Keras nor TensorFlow for it: a runtime takes part by being a
`TextModel`. What each task makes of the outputs is in `kzoo.tasks.answers`.
"""
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

SHORTEST = 16  # rows are padded to at least this


class TextModel(NamedTuple):
    """What answering needs of a model, live or exported.

    Attributes:
        run: function of a dict of arrays, `token_ids` and `segment_ids` int32 (B, T) and `padding_mask` bool (B, T),
            to a dict of arrays with one row a row; `segment_ids` only if there are segments.
        tokenizer: a `kzoo.tokenizers.Tokenizer`.
        max_sequence_length: most tokens of a row; None = no limit.
        num_segments: kinds of segments that the model tells apart.
        settings: of the task, such as its labels.
    """
    run: Callable
    tokenizer: Any
    max_sequence_length: int | None
    num_segments: int
    settings: dict


def holds_text(arguments, options):
    """Whether a call's arguments are text to be answered: a str, a list of such, or a dict whose values are str."""
    if "question" in options or "context" in options:
        return True
    first = arguments[0] if arguments else None
    if isinstance(first, (list, tuple)):
        return all(_is_text(each) for each in first)
    return _is_text(first)


def _is_text(value):
    return isinstance(value, str) or (isinstance(value, dict) and any(isinstance(each, str) for each in value.values()))


def read_texts(inputs):
    """(texts, whether it was one on its own)."""
    if isinstance(inputs, str):
        return [inputs], True
    if not isinstance(inputs, (list, tuple)) or not all(isinstance(text, str) for text in inputs):
        raise TypeError(f"`inputs` must be a text or a list of texts. Received: {inputs!r:.200}.")
    return list(inputs), False


def check_tokenizer(model):
    if model.tokenizer is None:
        raise ValueError("Text needs a tokenizer, and this model has none: give it one (`model.tokenizer = "
                         "kzoo.load_tokenizer(folder)`), or pass a dict with `token_ids`.")


def add_special_tokens(model, rows, truncate=False):
    """Rows of ids with what the tokenizer puts around a text.

    Args:
        rows: lists of int without special tokens.
        truncate: True cuts what is too long for the model.

    Raises: ValueError for a row that is too long, or that holds no token at all.
    """
    before, after = model.tokenizer.template
    result = []
    for number, ids in enumerate(rows):
        if model.max_sequence_length is not None:
            room = model.max_sequence_length - len(before) - len(after)
            if len(ids) > room and not truncate:
                raise ValueError(f"Text {number} has {len(ids) + len(before) + len(after)} tokens, special ones "
                                 f"included; the model reads {model.max_sequence_length}. Pass truncate=True to use "
                                 "its beginning.")
            ids = ids[:room]
        if not (ids or before or after):
            raise ValueError(f"Text {number} holds nothing that the tokenizer makes a token of.")
        result.append([*before, *ids, *after])
    return result


def run_rows(model, rows, segment_ids=None, batch_size=32):
    """The model's outputs for rows of token ids of any lengths.

    Rows of like length share a batch; batches are padded on the right to a bounded set of shapes, so that a handful of
    compilations serves every call.

    Args:
        model: a `TextModel`.
        rows: lists of int.
        segment_ids: a list for each row; left out where the model has no segments.
        batch_size: most rows of a batch.

    Returns: one dict a row, in order, of what `run` returned for it, padding included.
    """
    if type(batch_size) is not int or batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size!r}.")
    order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    results = [None] * len(rows)
    for start in range(0, len(order), batch_size):
        chosen = order[start:start + batch_size]
        width = padded_length(len(rows[chosen[-1]]), model.max_sequence_length)
        height = min(_power_of_two(len(chosen)), batch_size)
        inputs = {"token_ids": np.full((height, width), model.tokenizer.pad_id or 0, "int32"),
                  "padding_mask": np.zeros((height, width), bool)}
        inputs["padding_mask"][len(chosen):, 0] = True  # spare rows are a single token
        if model.num_segments > 1:
            inputs["segment_ids"] = np.zeros((height, width), "int32")
        for place, row in enumerate(chosen):
            inputs["token_ids"][place, :len(rows[row])] = rows[row]
            inputs["padding_mask"][place, :len(rows[row])] = True
            if segment_ids is not None and model.num_segments > 1:
                inputs["segment_ids"][place, :len(rows[row])] = segment_ids[row]
        outputs = model.run(inputs)
        for place, row in enumerate(chosen):
            results[row] = {name: array[place] for name, array in outputs.items()}
    return results


def padded_length(length, longest=None):
    """The next of 16, 24, 32, 48, 64, 96, ..., at most `longest`: never much more than a third is padding."""
    size = SHORTEST
    while size < length:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    return size if longest is None else min(size, longest)


def softmax(logits):
    """Probabilities over the last axis, in float64."""
    logits = np.asarray(logits, "float64")
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _power_of_two(number):
    return 1 << (number - 1).bit_length()

"""Prompts: what callers pass in, as lists of token ids; and lists of token ids as left-padded batches. Numpy only."""
from typing import NamedTuple

import numpy as np


class Prompts(NamedTuple):
    """Rows of token ids, the texts they came from (None for ids), and whether one prompt was passed on its own."""
    ids: list
    texts: list | None
    single: bool


def read_inputs(inputs, tokenizer, encode=None):
    """A text, a list of texts, token ids, or a list or array of rows of token ids, as `Prompts`.

    Args:
        encode: function (tokenizer, text) -> ids; None encodes what is to be continued, without an end.
    """
    encode = encode or _encode
    if isinstance(inputs, str):
        return Prompts([encode(tokenizer, inputs)], [inputs], True)
    if isinstance(inputs, (bytes, dict, set)) or not hasattr(inputs, "__len__"):
        raise TypeError("`inputs` must be a text, a list of texts, token ids, or a list of lists of token ids. "
                        f"Received: {type(inputs).__name__}.")
    if hasattr(inputs, "__array__"):
        inputs = np.asarray(inputs)
        if inputs.dtype.kind not in "iu" or inputs.ndim not in (1, 2):
            raise TypeError("An array of `inputs` must hold integers and have the shape (T,) or (B, T). "
                            f"Received: {inputs.dtype} {inputs.shape}.")
        inputs = inputs.tolist()
    if len(inputs) == 0:
        raise ValueError("`inputs` is empty: pass at least one prompt.")
    inputs = list(inputs)
    if all(isinstance(each, str) for each in inputs):
        return Prompts([encode(tokenizer, each) for each in inputs], inputs, False)
    if all(_is_id(each) for each in inputs):
        return Prompts([inputs], None, True)
    return Prompts(inputs, None, False)


def with_tokens(prompts, tokenizer=None, what="Prompt"):
    """Rows of plain ints; an empty row becomes the token that begins a text.

    Args:
        tokenizer: knows that token; None where there is none.
        what: a row is called in errors.

    Raises: ValueError for an empty prompt without such a token, TypeError for what is no list of ids.
    """
    rows = []
    for row, prompt in enumerate(prompts):
        if isinstance(prompt, (str, bytes, dict)) or not hasattr(prompt, "__len__"):
            raise TypeError(f"{what} {row} must be a list of token ids, like all the others. Received: {prompt!r}.")
        prompt = np.asarray(prompt).tolist() if hasattr(prompt, "__array__") else list(prompt)
        wrong = next((each for each in prompt if not _is_id(each)), None)
        if wrong is not None:
            raise TypeError(f"Token ids must be integers. Received: {wrong!r} in {what.lower()} {row}.")
        if not prompt:
            begin = getattr(tokenizer, "bos_id", None)
            if begin is None:
                reason = ", and there is no beginning-of-sequence token to start from" if what == "Prompt" else ""
                raise ValueError(f"{what} {row} is empty{reason}: pass at least one token.")
            prompt = [begin]
        rows.append([int(each) for each in prompt])
    return rows


def left_padded(prompts, pad_token_id=0):
    """int32 (B, T) and its bool mask, True = a real token; the last column is real in every row."""
    width = max(len(prompt) for prompt in prompts)
    token_ids = np.full((len(prompts), width), pad_token_id, "int32")
    padding_mask = np.zeros((len(prompts), width), bool)
    for row, prompt in enumerate(prompts):
        token_ids[row, width - len(prompt):] = prompt
        padding_mask[row, width - len(prompt):] = True
    return token_ids, padding_mask


def together(lengths, max_new_tokens, context=None):
    """Which rows can be one batch, and how many tokens each of them may grow.

    A batch is as wide as its longest prompt, padding included, and must fit into the context. So rows that the context
    would cut short share a batch only with rows of their length: padding must not cost a row any tokens.

    Returns: list of (rows, limit).
    """
    free, cut = [], {}
    for row, length in enumerate(lengths):
        if context is None or length + max_new_tokens <= context:
            free.append(row)
        else:
            cut.setdefault(length, []).append(row)
    groups = [(free, max_new_tokens)] if free else []
    return groups + [(rows, context - length) for length, rows in sorted(cut.items())]


def round_up(number, smallest):
    """The next of `smallest` times a power of two: sizes that repeat, for what is compiled for each."""
    size = smallest
    while size < number:
        size *= 2
    return size


def _encode(tokenizer, text):
    if tokenizer is None:
        raise ValueError("Text `inputs` need a tokenizer, and this model has none: pass token ids.")
    ids = list(tokenizer.encode(text, add_special_tokens=False))
    # Only the token that begins a text belongs here: BERT and T5 also close it, and it is to go on.
    if tokenizer.bos_id is not None and tokenizer.encode(text)[:1] == [tokenizer.bos_id] != ids[:1]:
        ids.insert(0, tokenizer.bos_id)
    return ids


def _is_id(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))

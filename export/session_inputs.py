"""What a session is given: arrays checked against a signature, and what may be left out of them."""
import numpy as np

from kzoo.errors import unknown
from kzoo.global_tokens import RULES, choose_global_tokens

# Input that may be left out -> what stands for it everywhere.
LEFT_OUT = {"padding_mask": 1, "encoder_padding_mask": 1, "segment_ids": 0}


def check_inputs(signature, inputs, sizes):
    """`inputs` as arrays of the signature's dtypes, or a ValueError that names the input."""
    if not isinstance(inputs, dict):
        raise ValueError(f"Inputs of {signature.name!r} are a dict of arrays by name. "
                         f"Received: {type(inputs).__name__}.")
    rows = {row.name: row for row in signature.inputs}
    for name in inputs:
        if name not in rows:
            raise ValueError(f"Signature {signature.name!r}: {unknown('input', name, rows)}")
    arrays, symbols = {}, {}
    for name, row in rows.items():
        if inputs.get(name) is None:
            if not row.optional:
                raise ValueError(f"Signature {signature.name!r} lacks the input `{name}`.")
            continue
        array = as_array(name, inputs[name])
        _check_shape(row, array, symbols)
        arrays[name] = _check_values(row, array, sizes)
    past, length = symbols.get("past_sequence_length", 0), symbols.get("sequence_length", 0)
    total = symbols.get("total_sequence_length")
    if total is not None and total != past + length:
        raise ValueError(f"`padding_mask` must cover the cache and the new tokens, {past} + {length}. "
                         f"Received: {total} columns.")
    limit = "max_sequence_length" if "token_ids" in rows or not sizes.get("max_target_length") else "max_target_length"
    for name, reached, field in (
            ("token_ids" if "token_ids" in rows else "decoder_token_ids", past + length, limit),
            ("encoder_token_ids", symbols.get("source_length", 0), "max_sequence_length")):
        if sizes[field] and reached > sizes[field]:  # 0: no limit
            raise ValueError(f"`{name}` reaches {reached} tokens; the model's `{field}` is {sizes[field]}.")
    return arrays


def complete(signature, arrays, task=None, settings=None):
    """`arrays` with what a caller may leave out: nothing is padding, all is the first segment, and the task, by its
    settings, chooses the global tokens.
    """
    ids, result = signature.inputs[0], dict(arrays)
    for row in signature.inputs[1:]:
        if not row.optional or row.name in arrays or row.shape != ids.shape:
            continue
        if row.name in LEFT_OUT:
            result[row.name] = np.full(arrays[ids.name].shape, LEFT_OUT[row.name], row.dtype)
        elif row.name == "global_mask":
            chosen = np.zeros(arrays[ids.name].shape, bool)
            if task in RULES:
                chosen = choose_global_tokens(RULES[task], arrays[ids.name], result["padding_mask"].astype(bool),
                                              settings["sep_id"])
            result[row.name] = chosen.astype(row.dtype)
    return result


def _check_shape(row, array, symbols):
    if array.ndim != len(row.shape):
        raise ValueError(f"`{row.name}` must have the shape ({_spell(row.shape)}). Received: {array.shape}.")
    for size, actual in zip(row.shape, array.shape, strict=True):
        if isinstance(size, str):
            if actual == 0 and size != "past_sequence_length":
                raise ValueError(f"`{row.name}` is empty. Received the shape {array.shape}.")
            size = symbols.setdefault(size, actual)
        if size != actual:
            raise ValueError(f"`{row.name}` must have the shape ({_spell(row.shape)}), here "
                             f"({_spell([symbols.get(each, each) for each in row.shape])}). Received: {array.shape}.")


def _check_values(row, array, sizes):
    kind, shape = array.dtype.kind, array.shape
    if row.name.endswith(("padding_mask", "global_mask")):
        values = array if kind in "iu" and array.size else np.zeros(1, "int32")
        if kind not in "biu" or values.min() < 0 or values.max() > 1:
            found = array.dtype if kind not in "iu" else values.min() if values.min() < 0 else values.max()
            raise ValueError(f"`{row.name}` must be bool, or whole numbers 0 and 1. Received: {found}.")
        if row.name == "global_mask" and array.astype(bool).sum(axis=1).max(initial=0) > sizes["max_global_tokens"]:
            raise ValueError(f"`global_mask` must have at most {sizes['max_global_tokens']} tokens a row "
                             f"(`max_global_tokens`). Received: {array.astype(bool).sum(axis=1).max()}.")
    elif row.dtype.startswith("int"):
        _check_whole(row.name, array, _limit(row.name, sizes), row.dtype)
    elif kind != "f":
        raise ValueError(f"`{row.name}` must be {row.dtype}. Received: {array.dtype}.")
    with np.errstate(over="ignore"):  # a number that float32 cannot hold becomes infinite, and is refused as that
        array = np.ascontiguousarray(array, dtype=row.dtype)
    if kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"`{row.name}` holds values that are not finite.")
    return array.reshape(shape)  # what is contiguous has at least one axis


def check_ids(name, values, count, limit):
    """int32 (N,) of whole numbers, as `check_inputs` checks them; for what is called once a token.

    Args:
        name: of the input.
        values: what was received.
        count: how many there must be; None means any number but none.
        limit: what they must be below.
    """
    array = as_array(name, values)
    if array.ndim != 1 or (len(array) != count if count is not None else not len(array)):
        raise ValueError(f"`{name}` must have the shape ({'N' if count is None else count},). Received: {array.shape}.")
    numbers = array.tolist()  # of few, Python finds the ends faster than numpy does
    if array.dtype.kind not in "iu" or min(numbers) < 0 or max(numbers) >= limit:
        _check_whole(name, array, limit)
    return array.astype("int32", copy=False)


def as_array(name, values):
    """`values` as a numpy array, or a ValueError that names the input."""
    try:
        return np.asarray(values)
    except Exception as error:  # rows of different lengths, numbers without end, tensors on another device
        raise ValueError(f"`{name}` is no array of numbers ({error}).") from error


def _check_whole(name, array, limit, dtype="int32"):
    if array.dtype.kind not in "iu":
        raise ValueError(f"`{name}` must hold whole numbers ({dtype}). Received: {array.dtype}.")
    if array.size and (array.min() < 0 or array.max() >= limit):
        worst = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"`{name}` must be from 0 to {limit - 1}. Received: {worst}.")
    return array


def _limit(name, sizes):
    """What whole numbers of an input must be below."""
    if name == "encoder_token_ids":
        return sizes["source_vocabulary_size"]
    if name == "segment_ids":
        return sizes["num_segments"]
    return sizes["vocabulary_size"] if name.endswith("token_ids") else (
        sizes["max_sequence_length"] or sizes["static_length"])


def _spell(shape):
    return ", ".join(str(size) for size in shape)


def token_positions(padding_mask):
    """Position of every token, counted over real ones from 0; padding takes that of the real token before it."""
    return np.maximum(np.cumsum(padding_mask, axis=1) - 1, 0)

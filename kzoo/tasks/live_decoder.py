"""The live Keras model behind the interface of the generate loop."""
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kzoo.backend import compile_function
from kzoo.tasks.generate import TokenDecoder


class _State(NamedTuple):
    """Rows in use, and the compiled functions' tensors; those have spare rows and slots, so that shapes repeat."""
    rows: int
    cache: Any
    padding_mask: Any  # (B, C): False where the prompt was padded; free slots count as real


class LiveDecoder(TokenDecoder):
    """Prefill and decode with a static cache, compiled once a shape.

    Batch, prompt and cache sizes are rounded up, so that a handful of compilations serves every call.

    Args:
        model: a `CausalLM`.
    """

    def __init__(self, model):
        self.model = model
        self.vocabulary_size = model.config.vocabulary_size
        self.max_sequence_length = model.config.max_sequence_length
        self._step = compile_function(model, self._forward)
        self._select = compile_function(model, _select_rows)

    def _forward(self, token_ids, padding_mask, cache):
        """Logits (B, V) of the last column."""
        inputs = {"token_ids": token_ids, "padding_mask": padding_mask}
        hidden_states, cache = self.model.backbone.forward(inputs, cache, training=False)
        logits = self.model.backbone.token_embedding.logits(hidden_states[:, -1:])  # (B, 1, V)
        return logits[:, 0], cache

    def prefill(self, token_ids, padding_mask, max_new_tokens):
        rows, length = token_ids.shape
        batch = _round_up(rows, 1)
        # Not beyond the context; a prompt that is refuses to run, in words.
        width = max(length, min(_round_up(length, 16), self.max_sequence_length))
        capacity = min(_round_up(length + max_new_tokens, 32), self.max_sequence_length) + width - length
        capacity = max(capacity, width)
        # Padded on the left like the prompts; spare rows are a single token.
        ids = np.zeros((batch, width), "int32")
        ids[:rows, width - length:] = token_ids
        mask = np.ones((batch, capacity), bool)
        mask[:, :width] = False
        mask[:rows, width - length:width] = padding_mask
        mask[rows:, width - 1] = True
        cache = self.model.backbone.empty_cache(batch, capacity)
        logits, cache = self._step(ops.convert_to_tensor(ids), ops.convert_to_tensor(mask), cache)
        return _to_numpy(logits)[:rows], _State(rows, cache, ops.convert_to_tensor(mask))

    def decode(self, token_ids, state):
        batch = state.padding_mask.shape[0]
        ids = np.zeros((batch, 1), "int32")
        ids[:state.rows, 0] = token_ids
        logits, cache = self._step(ops.convert_to_tensor(ids), state.padding_mask, state.cache)
        return _to_numpy(logits)[:state.rows], state._replace(cache=cache)

    def reorder(self, state, rows):
        rows = np.asarray(rows, "int32")
        batch = state.padding_mask.shape[0]
        if len(rows) > batch:
            batch = _round_up(len(rows), 1)
        # Spare rows repeat row 0: their results are thrown away.
        chosen = np.concatenate([rows, np.zeros(batch - len(rows), "int32")]).astype("int32")
        cache, mask = self._select(ops.convert_to_tensor(chosen), state.cache, state.padding_mask)
        return _State(len(rows), cache, mask)


def _select_rows(rows, cache, padding_mask):
    cache = tuple(layer._replace(keys=ops.take(layer.keys, rows, axis=0), values=ops.take(layer.values, rows, axis=0))
                  for layer in cache)
    return cache, ops.take(padding_mask, rows, axis=0)


def _round_up(number, smallest):
    """The next of `smallest` times a power of two."""
    size = smallest
    while size < number:
        size *= 2
    return size


def _to_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))

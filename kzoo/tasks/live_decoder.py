"""The live Keras model behind the interfaces of the generate loop.

Decoding runs with a static cache and is compiled once a shape. Batch, prompt and cache sizes are rounded up, so that a
handful of compilations serves every call.
"""
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kzoo.backend import compile_function
from kzoo.layers import DecoderCache
from kzoo.tasks.generate import TokenDecoder
from kzoo.tasks.prompts import round_up
from kzoo.tasks.seq2seq import WIDTH, SourceReader


class _State(NamedTuple):
    """Rows in use, and the compiled functions' tensors; those have spare rows and slots, so that shapes repeat."""
    rows: int
    cache: Any
    masks: dict  # name of the input -> bool tensor (B, slots)


class _Steps:
    """What live models share: one compiled step, and another that picks rows.

    Args:
        model: a task with logits, whose backbone has a cache.
        ids_name: what the backbone calls the tokens that are continued.
        vocabulary_size: V of the logits.
    """

    def __init__(self, model, ids_name, vocabulary_size):
        self.model = model
        self.ids_name = ids_name
        self.vocabulary_size = vocabulary_size
        self.max_sequence_length = model.config.max_sequence_length
        self._step = compile_function(model, self._forward)
        self._select = compile_function(model, _select_rows)

    def _forward(self, token_ids, masks, cache):
        """Logits (B, V) of the last column."""
        inputs = {self.ids_name: token_ids, **masks}
        hidden_states, cache = self.model.backbone.forward(inputs, cache, training=False)
        return self.model.head(hidden_states[:, -1:], inputs, training=False)[:, 0], cache

    def step(self, rows, token_ids, masks, cache):
        """(logits (rows, V), state) after int32 (B, T) tokens, of which `rows` rows are in use."""
        logits, cache = self._step(ops.convert_to_tensor(token_ids), masks, cache)
        return _to_numpy(logits)[:rows], _State(rows, cache, masks)

    def decode(self, token_ids, state):
        ids = np.zeros((_batch_size(state), 1), "int32")
        ids[:state.rows, 0] = token_ids
        return self.step(state.rows, ids, state.masks, state.cache)

    def reorder(self, state, rows):
        rows = np.asarray(rows, "int32")
        batch = _batch_size(state)
        if len(rows) > batch:
            batch = round_up(len(rows), 1)
        # Spare rows repeat row 0: their results are thrown away.
        chosen = np.concatenate([rows, np.zeros(batch - len(rows), "int32")]).astype("int32")
        cache, masks = self._select(ops.convert_to_tensor(chosen), state.cache, state.masks)
        return _State(len(rows), cache, masks)

    def longest(self, length):
        """`length`, or the model's context where that is shorter."""
        return shorter(length, self.max_sequence_length)


def shorter(length, longest):
    """`length`, or `longest` where there is a limit and it is shorter."""
    return length if longest is None else min(length, longest)


class LiveDecoder(_Steps, TokenDecoder):
    """Continues prompts.

    Args:
        model: a `CausalLM`.
    """

    def __init__(self, model):
        super().__init__(model, "token_ids", model.config.vocabulary_size)

    def prefill(self, token_ids, padding_mask, max_new_tokens):
        rows, length = token_ids.shape
        batch = round_up(rows, 1)
        # Not beyond the context; a prompt that is refuses to run, in words.
        width = max(length, self.longest(round_up(length, 16)))
        capacity = max(self.longest(round_up(length + max_new_tokens, 32)) + width - length, width)
        # Padded on the left like the prompts; spare rows are a single token.
        ids = np.zeros((batch, width), "int32")
        ids[:rows, width - length:] = token_ids
        mask = np.ones((batch, capacity), bool)  # free slots count as real
        mask[:, :width] = False
        mask[:rows, width - length:width] = padding_mask
        mask[rows:, width - 1] = True
        cache = self.model.backbone.empty_cache(batch, capacity)
        return self.step(rows, ids, {"padding_mask": ops.convert_to_tensor(mask)}, cache)


class MemoryDecoder(_Steps, TokenDecoder):
    """Continues prompts of any length, with a model whose cache is a memory: they are read in segments.

    Segments end where the prompts end, so that a row alone is cut where it is cut in a batch.

    Args:
        model: a `CausalLM` whose backbone is recurrent.
    """

    def __init__(self, model):
        super().__init__(model, "token_ids", model.config.vocabulary_size)
        self.segment_length, self.max_sequence_length = self.max_sequence_length, None

    def prefill(self, token_ids, padding_mask, max_new_tokens):
        rows, length = token_ids.shape
        batch, segment = round_up(rows, 1), min(round_up(length, 16), self.segment_length)
        width = -(-length // segment) * segment
        ids, mask = np.zeros((batch, width), "int32"), np.zeros((batch, width), bool)
        ids[:rows, width - length:] = token_ids
        mask[:rows, width - length:] = padding_mask
        mask[rows:, -1] = True  # spare rows are a single token
        cache = self.model.backbone.empty_cache(batch)
        for begin in range(0, width, segment):
            here = slice(begin, begin + segment)
            logits, state = self.step(rows, ids[:, here], {"padding_mask": ops.convert_to_tensor(mask[:, here])}, cache)
            cache = state.cache
        return logits, state._replace(masks={})  # what is added is not padding


class LiveReader(_Steps, SourceReader):
    """Reads sources, once, and continues their targets.

    Args:
        model: a `Seq2SeqLM`.
    """

    def __init__(self, model):
        backbone, config = model.backbone, model.config
        super().__init__(model, "decoder_token_ids", backbone.target_vocabulary_size)
        self.source_vocabulary_size = backbone.source_vocabulary_size
        self.max_target_length = backbone.max_target_length
        self.decoder_start_id = config.decoder_start_id
        self.eos_id = config.eos_id
        self.generation_defaults = config.generation_defaults()
        self.read_context = compile_function(model, self._read_context)

    def _read_context(self, token_ids, padding_mask):
        return self.model.backbone.read_context({"encoder_token_ids": token_ids, "encoder_padding_mask": padding_mask})

    def read(self, token_ids, padding_mask):
        rows, length = token_ids.shape
        batch, width = round_up(rows, 1), max(length, self.longest(round_up(length, WIDTH)))
        ids = np.zeros((batch, width), "int32")
        ids[:rows, :length] = token_ids
        mask = np.zeros((batch, width), bool)
        mask[:rows, :length] = padding_mask
        mask[rows:, 0] = True  # spare rows are a single token
        return _Targets(self, ops.convert_to_tensor(ids), ops.convert_to_tensor(mask))


class _Targets(TokenDecoder):
    """Continues the targets of certain sources; prompts are of one length, as all of them begin alike."""

    def __init__(self, reader, token_ids, padding_mask):
        self.vocabulary_size, self.max_sequence_length = reader.vocabulary_size, reader.max_target_length
        self._reader, self._sources = reader, (token_ids, padding_mask)

    def prefill(self, token_ids, padding_mask, max_new_tokens):
        contexts = self._reader.read_context(*self._sources)
        rows, length = token_ids.shape
        batch = self._sources[0].shape[0]
        ids = np.zeros((batch, length), "int32")
        ids[:rows] = token_ids
        capacity = max(shorter(round_up(length + max_new_tokens, 32), self.max_sequence_length), length)
        own = self._reader.model.backbone.empty_cache(batch, capacity)
        cache = tuple(DecoderCache(*layer) for layer in zip(own, contexts, strict=True))
        return self._reader.step(rows, ids, {"encoder_padding_mask": self._sources[1]}, cache)

    def decode(self, token_ids, state):
        return self._reader.decode(token_ids, state)

    def reorder(self, state, rows):
        return self._reader.reorder(state, rows)


def _select_rows(rows, cache, masks):
    def pick(tensor):
        return ops.take(tensor, rows, axis=0) if len(tensor.shape) else tensor  # a scalar is the same for every row

    return keras.tree.map_structure(pick, (cache, masks))


def _batch_size(state):
    return keras.tree.flatten(state.cache)[0].shape[0]


def _to_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))

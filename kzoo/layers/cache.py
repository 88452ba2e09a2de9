"""Keys and values of earlier tokens, as values: passed in, returned, never hidden in a layer.

`GrowingCache`, `StaticCache` and `RingCache` answer one call, `append(keys, values)`, with the keys and values to
attend to and the cache to pass on. `ContextCache` holds what cross-attention attends to, which does not change. A
model's cache is a tuple with one entry a layer; that of a decoder with cross-attention is a `DecoderCache`, and that of
a layer which computes keys and values of earlier tokens anew a `MemoryCache`.
"""
from typing import Any, NamedTuple

from keras import ops


class GrowingCache(NamedTuple):
    """Concatenates: S grows by T at each call, and S = 0 is legal. Suits ONNX, where shapes may change.

    Attributes:
        keys, values: (B, S, K, D).
    """
    keys: Any
    values: Any

    @property
    def index(self):
        """The next free slot: the number of cached tokens."""
        return ops.shape(self.keys)[1]

    def append(self, keys, values):
        if self.keys.shape[1] != 0:  # known to be empty: nothing to join in an exported graph
            keys = ops.concatenate([self.keys, keys], axis=1)        # (B, S + T, K, D)
            values = ops.concatenate([self.values, values], axis=1)  # (B, S + T, K, D)
        return keys, values, GrowingCache(keys, values)

    @classmethod
    def empty(cls, batch_size, num_heads, head_dim, dtype):
        nothing = ops.zeros((batch_size, 0, num_heads, head_dim), dtype)
        return cls(nothing, nothing)


class StaticCache(NamedTuple):
    """Writes into a buffer of fixed size. Suits TFLite and XLA, where shapes may not change.

    Slots from `index` on are free: whoever attends must not see them (a causal rule does not). Tokens that do not fit
    are not written.

    Attributes:
        keys, values: (B, C, K, D).
        index: int32 scalar, the next free slot, the same for every row.
    """
    keys: Any
    values: Any
    index: Any

    def append(self, keys, values):
        cache = StaticCache(self._write(self.keys, keys), self._write(self.values, values), self.index + keys.shape[1])
        return cache.keys, cache.values, cache

    def _write(self, buffer, new):
        # A select rather than a slice update: it is the form that XLA, ONNX and TFLite's builtins all have, and
        # it does not shift the write when the last tokens do not fit.
        length = new.shape[1]
        offset = ops.arange(buffer.shape[1], dtype="int32") - self.index  # (C,)
        inside = ops.reshape((offset >= 0) & (offset < length), (1, -1, 1, 1))
        new = ops.cast(new, buffer.dtype)
        if length > 1:
            new = ops.take(new, ops.clip(offset, 0, length - 1), axis=1)  # (B, C, K, D)
        return ops.where(inside, new, buffer)

    @classmethod
    def empty(cls, batch_size, capacity, num_heads, head_dim, dtype):
        buffer = ops.zeros((batch_size, capacity, num_heads, head_dim), dtype)
        return cls(buffer, buffer, ops.zeros((), "int32"))


class RingCache(NamedTuple):
    """Holds the last tokens alone: a fixed size, however long the text. For patterns that look no further back.

    The oldest leave as new ones come. They stand in their order, which costs the copy that writing into a buffer costs
    too, and so every format has it.

    Attributes:
        keys, values: (B, C, K, D), the last ones on the right.
        index: int32 scalar, the number of tokens so far; slots for which there were none yet are in front.
    """
    keys: Any
    values: Any
    index: Any

    def append(self, keys, values):
        new = keys.shape[1]
        keys = ops.concatenate([self.keys, ops.cast(keys, self.keys.dtype)], axis=1)          # (B, C + T, K, D)
        values = ops.concatenate([self.values, ops.cast(values, self.values.dtype)], axis=1)  # (B, C + T, K, D)
        return keys, values, RingCache(keys[:, new:], values[:, new:], self.index + new)

    @classmethod
    def empty(cls, batch_size, capacity, num_heads, head_dim, dtype):
        """A cache of the `capacity` last tokens: at least the `reach` of a `SlidingWindow`."""
        buffer = ops.zeros((batch_size, capacity, num_heads, head_dim), dtype)
        return cls(buffer, buffer, ops.zeros((), "int32"))


class ContextCache(NamedTuple):
    """Keys and values of the context of cross-attention: computed once, attended to at every step.

    Attributes:
        keys, values: (B, S, K, D).
    """
    keys: Any
    values: Any


class DecoderCache(NamedTuple):
    """The cache of a decoder layer that also attends to an encoder's output.

    Attributes:
        own: `GrowingCache` or `StaticCache` of the layer's self-attention.
        context: `ContextCache`.
    """
    own: Any
    context: Any


class MemoryCache(NamedTuple):
    """What a layer read last, before keys and values are made of it: segment-level recurrence.

    Of fixed length, so that every step costs the same. No gradient goes back into it.

    Attributes:
        hidden_states: (B, M, E), the layer's last M inputs, the latest one last; zeros where there was none yet.
        padding_mask: bool (B, M), True = a real token.

    Source: Dai et al. 2019, section 3.2 (arXiv 1901.02860).
    """
    hidden_states: Any
    padding_mask: Any

    def append(self, hidden_states, padding_mask):
        """The memory after a segment.

        Args:
            hidden_states: (B, T, E), what the layer reads now.
            padding_mask: bool (B, T).
        """
        length = self.hidden_states.shape[1]
        hidden_states = ops.cast(ops.stop_gradient(hidden_states), self.hidden_states.dtype)
        return MemoryCache(ops.concatenate([self.hidden_states, hidden_states], axis=1)[:, -length:],
                           ops.concatenate([self.padding_mask, padding_mask], axis=1)[:, -length:])

    def forget(self, rows):
        """The memory with the rows empty for which bool (B,) is True: another text begins there."""
        rows = ops.expand_dims(rows, 1)                                                         # (B, 1)
        hidden_states = ops.where(ops.expand_dims(rows, 2), ops.zeros_like(self.hidden_states), self.hidden_states)
        return MemoryCache(hidden_states, ops.logical_and(self.padding_mask, ops.logical_not(rows)))

    @classmethod
    def empty(cls, batch_size, length, hidden_dim, dtype):
        return cls(ops.zeros((batch_size, length, hidden_dim), dtype), ops.zeros((batch_size, length), "bool"))

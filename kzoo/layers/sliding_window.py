"""Attention to neighbours: time and memory grow with the length, not with its square."""
import dataclasses
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kzoo.layers.attention_function import dot_product_attention
from kzoo.layers.folding import sees_ahead
from kzoo.layers.patterns import Pattern, column, row, value_bias


class SharedKeys(NamedTuple):
    """Keys that every query sees besides those of its window, within the same softmax.

    Attributes:
        keys, values: (B, G, K, D).
        visible: bool (B, G), False where a row has fewer than G.
    """
    keys: Any
    values: Any
    visible: Any


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class SlidingWindow(Pattern):
    """A query is compared with the keys near it: |q - k| < window_size, or with dilation r those among
    |q - k| < window_size * r whose distance r divides. With a causal rule that leaves the `window_size` last ones.

    Rows are cut into blocks of queries, each beside the blocks of keys that hold its windows; what these hold besides
    is masked. A row that attends to itself costs T * (2 * window_size + block_size) at most. Distances are those of
    slots, so padding stands at the ends of rows. With a cache, T queries are compared with each key that it holds: read
    long prompts in pieces, and hold no more than a `RingCache` of `reach` slots does.

    Args:
        window_size: how far a query sees, itself included.
        dilation: r; every r-th key of a window r times as wide.
        block_size: queries computed together; None means `window_size` - 1, which needs one more block on a side.

    Source: Beltagy et al. 2020, section 3.1 (arXiv 2004.05150); "window 512" there is 256 on each side, 257 here.
    """
    window_size: int
    dilation: int = 1
    block_size: int | None = None

    def __post_init__(self):
        for name in ("window_size", "dilation", "block_size"):
            if (getattr(self, name) or 1) < 1 or getattr(self, name) == 0:
                raise ValueError(f"`{name}` must be at least 1. Received: {getattr(self, name)}.")

    @property
    def reach(self):
        """The distance of the furthest key: how many earlier tokens a cache must hold."""
        return (self.window_size - 1) * self.dilation

    def visible(self, query_positions, key_positions, num_heads):
        distance = ops.abs(query_positions - key_positions)
        near = distance <= self.reach
        return near & (distance % self.dilation == 0) if self.dilation > 1 else near

    def attend(self, query, key, value, positions, mask, position, shared=None, **options):
        """Attention of (B, T, H, D) queries over (B, S, K, D) keys and values; see `Full.attend`.

        Args:
            shared: `SharedKeys` of all queries, for rows that attend to themselves; or None. Neither rule nor bias is
                asked about them.

        Returns: (B, T, H, D).
        """
        if positions.query is not positions.key:
            return super().attend(query, key, value, positions, mask, position, **options)
        length, r = ops.shape(query)[1], self.dilation
        none = ops.cast(ops.zeros_like(query[:, :, 0, 0]), "int32")                      # (B, T)
        at = none + positions.key
        # Numbers, because not every format can pad and slice truth values.
        real = none + 1 if positions.padding_mask is None else ops.cast(positions.padding_mask, "int32")
        query, key, value, at, real = (_split_phases(x, r) for x in (query, key, value, at, real))
        if shared is not None:
            shared = SharedKeys(_joined(shared.keys), _joined(shared.values),
                                ops.cast(ops.expand_dims(shared.visible, 2), "int32"))
            shared = SharedKeys(*(_repeated(x, r) for x in shared))
        mixed = self._attend_in_blocks(query, key, value, at, real, mask, position, shared, options)
        return _join_phases(mixed, r)[:, :length]

    def _attend_in_blocks(self, query, key, value, at, real, mask, position, shared, options):
        """Without dilation.

        Args:
            at: positions, int32 (B, T).
            real: 1 for tokens and 0 for padding, int32 (B, T).
            shared: with heads joined, and int32 (B, G, 1) for what is visible.
        """
        length, heads, key_heads, width = ops.shape(query)[1], query.shape[2], key.shape[2], query.shape[3]
        size, before, after = self._blocks(length, sees_ahead(mask))
        count = (length + size - 1) // size                                              # N

        def queries(x):  # (B, T, ...) -> (B * N, W, ...)
            return _windows(x, size, count, 0, 0)

        def keys(x):     # (B, T, ...) -> (B * N, S, ...), S = (before + 1 + after) * W
            return _windows(x, size, count, before, after)

        query, key, value = queries(_joined(query)), keys(_joined(key)), keys(_joined(value))
        query_at, key_at = column(queries(at)), row(keys(at))
        offset = np.arange((before + 1 + after) * size) - before * size - np.arange(size)[:, None]
        visible = (row(keys(real)) > 0) & (abs(offset) < self.window_size)[None, None]        # (B * N, 1, W, S)
        allowed = mask(query_at, key_at)
        visible = visible if allowed is None else visible & allowed
        query = ops.reshape(query, (-1, size, heads, width))                             # (B * N, W, H, D)
        bias = position.score_bias(query, query_at, key_at)
        if shared is not None:
            ours = SharedKeys(*(_repeated(x, count) for x in shared))                    # (B * N, G, ...)
            key = ops.concatenate([key, ours.keys], axis=1)
            value = ops.concatenate([value, ours.values], axis=1)
            seen = ops.tile(row(ops.squeeze(ours.visible, 2)), (1, 1, size, 1))         # (B * N, 1, W, G)
            visible = ops.concatenate([visible, seen > 0], axis=-1)
            if bias is not None:
                bias = ops.pad(bias, ((0, 0), (0, 0), (0, 0), (0, ours.keys.shape[1])))
        key, value = (ops.reshape(x, (-1, visible.shape[-1], key_heads, width)) for x in (key, value))
        mixed = dot_product_attention(query, key, value, mask=visible, bias=bias,
                                      value_bias=value_bias(position, query_at, key_at), **options)
        mixed = ops.reshape(_joined(mixed), (-1, count * size, heads * width))[:, :length]
        return ops.reshape(mixed, (-1, length, heads, width))

    def _blocks(self, length, ahead):
        """(W, blocks of keys before a block of queries, blocks after it); one block if that holds no more."""
        size = self.block_size or max(self.window_size - 1, 1)
        before = -(-(self.window_size - 1) // size)
        after = before if ahead else 0
        if isinstance(length, int) and length <= (before + 1 + after) * size:
            return length, 0, 0
        return size, before, after


def _joined(x):
    """(B, T, H, D) -> (B, T, H * D). Heads are cut last, as other attention does: graphs then show what it is."""
    return ops.reshape(x, (-1, ops.shape(x)[1], x.shape[2] * x.shape[3]))


def _repeated(x, count):
    """Each row `count` times: (B, G, F) -> (B * N, G, F). Not by `repeat`, which not every format has."""
    if isinstance(count, int) and count == 1:
        return x
    return ops.reshape(ops.tile(ops.expand_dims(x, 1), (1, count, 1, 1)), (-1, *x.shape[1:]))


def _windows(x, size, count, before, after):
    """Each of `count` blocks of `size` slots with its neighbours, beyond the ends zeros.

    (B, T, ...) -> (B * N, (before + 1 + after) * W, ...).
    """
    length = ops.shape(x)[1]
    # A length that is not known while tracing leaves up to a block of zeros that no window reads.
    spare = count * size - length if isinstance(length, int) else size
    x = ops.pad(x, ((0, 0), (before * size, after * size + spare), *((0, 0),) * (len(x.shape) - 2)))
    pieces = [ops.reshape(x[:, i * size:i * size + count * size], (-1, size, *x.shape[2:]))
              for i in range(before + 1 + after)]
    return ops.concatenate(pieces, axis=1) if len(pieces) > 1 else pieces[0]


def _split_phases(x, r):
    """Every r-th slot in a row of its own: (B, T, ...) -> (B * r, T / r, ...), filled up with zeros."""
    if r == 1:
        return x
    length, rest = ops.shape(x)[1], x.shape[2:]
    count = (length + r - 1) // r
    x = ops.pad(x, ((0, 0), (0, r), *((0, 0),) * len(rest)))[:, :count * r]
    x = ops.reshape(x, (-1, count, r, *rest))
    return ops.reshape(ops.transpose(x, (0, 2, 1, *range(3, 3 + len(rest)))), (-1, count, *rest))


def _join_phases(x, r):
    """The inverse of `_split_phases`, what was filled up included."""
    if r == 1:
        return x
    count, rest = ops.shape(x)[1], x.shape[2:]
    x = ops.transpose(ops.reshape(x, (-1, r, count, *rest)), (0, 2, 1, *range(3, 3 + len(rest))))
    return ops.reshape(x, (-1, count * r, *rest))

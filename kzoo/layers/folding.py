"""Blocks of a sequence, folded into the batch axis: how patterns compute a part of all pairs with dense attention."""
import dataclasses
from typing import NamedTuple

import numpy as np
from keras import ops

from kzoo.layers.patterns import Pattern, dense_attention
from kzoo.layers.positions import Positions


@dataclasses.dataclass(frozen=True)
class FoldingPattern(Pattern):
    """A pattern that cuts one whole sequence of known length into blocks.

    A subclass writes `attend_in_order`, for tokens whose slots are their positions. Padding is moved behind the real
    tokens first, and back afterwards, so that blocks begin at a row's first token on whichever side it is padded.
    """

    def attend(self, query, key, value, positions, mask, position, **options):
        if not is_one_sequence(query, key):
            return super().attend(query, key, value, positions, mask, position, **options)
        ordered, order = in_order(positions, query.shape[1])
        if order is not None:
            query, key, value = (reorder(x, order) for x in (query, key, value))
        mixed = self.attend_in_order(query, key, value, ordered, mask, position, **options)  # (B, T, H, D)
        return mixed if order is None else reorder(mixed, ops.argsort(order, axis=1))

    def attend_in_order(self, query, key, value, positions, mask, position, **options):
        """As `attend`, where slot i of queries and keys has position i and padding stands at the end."""
        raise NotImplementedError(f"{type(self).__name__} must define `attend_in_order`.")


def is_one_sequence(query, key):
    """Whether queries and keys are known to be as many: then they are the same tokens, and no cache holds others."""
    return isinstance(query.shape[1], int) and query.shape[1] == key.shape[1]


def in_order(positions, length):
    """Positions once the real tokens stand first, and which slot each slot takes its token from.

    Args:
        positions: `Positions` of T = S = `length` tokens.

    Returns: (`Positions`, int32 (B, T)); (`Positions`, None) where there is no padding and all stays in place.
    """
    slots = np.arange(length, dtype="int32")[None]
    real = positions.padding_mask
    if real is None:
        return Positions(slots, slots, slots, None), None
    order = ops.argsort(ops.where(real, slots, length + slots), axis=1)  # all different, so that the order is stable
    return Positions(slots, slots, slots, reorder(real, order)), order


def reorder(x, order):
    """(B, T, ...) with row b's slot t taken from its slot order[b, t]."""
    length, rest = x.shape[1], x.shape[2:]
    # One gather of rows: `take_along_axis` would write out an index for every number.
    places = order + length * ops.expand_dims(ops.arange(ops.shape(order)[0], dtype=order.dtype), 1)
    rows = ops.take(ops.reshape(x, (-1, *rest)), ops.reshape(places, (-1,)), axis=0)  # (B * T, ...)
    return ops.reshape(rows, (-1, length, *rest))


class Blocks(NamedTuple):
    """How T slots are cut into N blocks of W.

    Attributes:
        length: T; the last block is filled up.
        size: W.
        strided: False: a block holds W slots that follow one another, and N = ceil(T / W). True: `size` is the stride,
            a block holds the slots that are a multiple of it apart: there are `size` blocks of ceil(T / size) slots.
    """
    length: int
    size: int
    strided: bool = False

    @property
    def rounds(self):
        """T / size, rounded up."""
        return -(-self.length // self.size)

    def cut(self, x):
        """(B, T, ...) -> (B, N, W, ...), filled up with zeros."""
        filling = self.rounds * self.size - self.length
        if filling:
            x = ops.pad(x, [[0, 0], [0, filling]] + [[0, 0]] * (len(x.shape) - 2))
        x = ops.reshape(x, (-1, self.rounds, self.size, *x.shape[2:]))
        return ops.swapaxes(x, 1, 2) if self.strided else x

    def join(self, x):
        """The inverse of `cut`."""
        x = ops.swapaxes(x, 1, 2) if self.strided else x
        return ops.reshape(x, (-1, self.rounds * self.size, *x.shape[3:]))[:, :self.length]


def neighbours(x, before, after):
    """Each block with those around it, zeros beyond the ends.

    (B, N, W, ...) -> (B, N, (before + 1 + after) * W, ...).
    """
    count = x.shape[1]
    x = ops.pad(x, [[0, 0], [before, after]] + [[0, 0]] * (len(x.shape) - 2))
    return ops.concatenate([x[:, i:i + count] for i in range(before + 1 + after)], axis=2)


def attend_in_blocks(query, key, value, positions, mask, position, blocks, gather, present=True, **options):
    """Dense attention of each block of queries over the keys that are gathered for it.

    Args:
        query: (B, T, H, D); key, value: (B, T, K, D).
        positions: `Positions` of slots in order.
        blocks: `Blocks`.
        gather: function of (B, N, W, ...) to (B, N, S, ...): the keys of each block.
        present: boolean, broadcastable to (1, N, S): which of them are to be seen at all.
        options: of `dense_attention`.

    Returns: (B, T, H', D), of the heads that `options` choose.
    """
    batch = ops.shape(query)[0]
    real = positions.padding_mask
    real = np.ones((1, blocks.length), bool) if real is None else real
    real = gather(blocks.cut(ops.cast(real, "int32"))) > 0                        # (B or 1, N, S)
    real = ops.logical_and(real, present)

    def fold(x):
        return ops.reshape(x, (-1, *x.shape[2:]))

    def fold_for_all(x):
        return fold(x if x.shape[0] != 1 else ops.tile(x, (batch, 1, 1)))         # (B * N, ...)

    folded = Positions(None, fold_for_all(blocks.cut(positions.query)),
                       fold_for_all(gather(blocks.cut(positions.key))), fold_for_all(real))
    mixed = dense_attention(fold(blocks.cut(query)), fold(gather(blocks.cut(key))), fold(gather(blocks.cut(value))),
                            folded, mask, position, **options)                    # (B * N, W, H', D)
    count = blocks.size if blocks.strided else blocks.rounds
    return blocks.join(ops.reshape(mixed, (-1, count, *mixed.shape[1:])))


def sees_ahead(mask):
    """Whether a query may see the key after it: asked of the rule itself."""
    answer = mask(np.zeros((1, 1, 1, 1), "int32"), np.ones((1, 1, 1, 1), "int32"))
    return answer is None or bool(np.all(ops.convert_to_numpy(answer)))

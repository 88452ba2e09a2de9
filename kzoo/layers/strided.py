"""Attention to the last few tokens in one half of the heads, to every so many-th token in the other."""
import dataclasses

import keras
import numpy as np
from keras import ops

from kzoo.layers.folding import Blocks, FoldingPattern, attend_in_blocks, neighbours, sees_ahead


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class Strided(FoldingPattern):
    """Even heads look at tokens less than `stride` away, odd heads at those a multiple of `stride` away.

    Two layers of it join any two tokens. With a stride near sqrt(T), time and memory grow with T * sqrt(T).

    Attributes:
        stride: l.

    Source: Child et al. 2019, section 4.2, "strided" (arXiv 1904.10509), which also lets a mask other than the causal
    one decide what lies ahead.
    """
    stride: int

    def __post_init__(self):
        if self.stride < 1:
            raise ValueError(f"`stride` must be at least 1. Received: {self.stride}.")

    def check(self, mask, position, num_heads):
        if num_heads < 2:
            raise ValueError("Strided attention needs at least 2 heads: one kind looks near, the other far. "
                             f"Received: {num_heads}.")

    def visible(self, query_positions, key_positions, num_heads):
        distance = query_positions - key_positions                                     # (B or 1, 1, T, S)
        far = np.arange(num_heads).reshape(1, -1, 1, 1) % 2 == 1
        return (far & (distance % self.stride == 0)) | (~far & self._is_near(distance))

    def _is_near(self, distance):
        return (distance < self.stride) & (distance > -self.stride)

    def attend_in_order(self, query, key, value, positions, mask, position, **options):
        length, heads = query.shape[1:3]
        if key.shape[2] != heads:  # heads that share a key head are of both kinds
            key, value = (ops.repeat(x, heads // x.shape[2], axis=2) for x in (key, value))
        ahead = int(sees_ahead(mask))

        def near_mask(query_positions, key_positions):
            near, allowed = self._is_near(query_positions - key_positions), mask(query_positions, key_positions)
            return near if allowed is None else near & allowed

        near = attend_in_blocks(query, key, value, positions, near_mask, position, Blocks(length, self.stride),
                                lambda x: neighbours(x, 1, ahead), heads=slice(0, None, 2), **options)
        far = attend_in_blocks(query, key, value, positions, mask, position, Blocks(length, self.stride, strided=True),
                               lambda x: x, heads=slice(1, None, 2), **options)
        pairs = heads // 2
        mixed = ops.stack([near[:, :, :pairs], far], axis=3)                           # (B, T, H / 2, 2, D)
        mixed = ops.reshape(mixed, (-1, length, 2 * pairs, near.shape[3]))
        return mixed if heads % 2 == 0 else ops.concatenate([mixed, near[:, :, pairs:]], axis=2)

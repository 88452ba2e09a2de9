"""Attention to the tokens of the own segment, and to one summary of each other segment."""
import dataclasses

import keras
import numpy as np
from keras import ops

from kzoo.layers.attention_function import MASKED_SCORE, attention_scores, dot_product_attention
from kzoo.layers.folding import Blocks, FoldingPattern, in_order, is_one_sequence, reorder
from kzoo.layers.patterns import column, row, visible_pairs


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class Hierarchical(FoldingPattern):
    """A token looks at its own segment, and at the mean key and value of every other one, in one softmax.

    A summary is seen only by those who may see all of its tokens: under a causal mask, from the next segment on. With
    segments of about sqrt(T) tokens, time and memory grow with T * sqrt(T).

    Summaries need all tokens of their segments at once: there is no decoding with a cache, and no length that is
    unknown while a graph is traced.

    Attributes:
        segment_size: W, tokens in a segment.

    Source: the two levels of Yang et al. 2016 (N16-1174) as keys of one attention, with mean pooling in the place of a
    learned one; Zhu and Soricut 2021 (arXiv 2107.11906) pool keys and values so.
    """
    segment_size: int
    whole_rows = True

    def __post_init__(self):
        if self.segment_size < 1:
            raise ValueError(f"`segment_size` must be at least 1. Received: {self.segment_size}.")

    def check(self, mask, position, num_heads):
        if getattr(position, "value_bias", None) is not None:
            raise ValueError(f"Hierarchical attention cannot work with {type(position).__name__}: a summary of a "
                             "segment has no single distance whose vector could be added to its value.")

    def attend(self, query, key, value, positions, mask, position, **options):
        _require_one_sequence(query, key)
        return super().attend(query, key, value, positions, mask, position, **options)

    def attend_in_order(self, query, key, value, positions, mask, position, **options):
        segments = _Segments(query, key, positions, mask, self.segment_size)
        batch, blocks = ops.shape(query)[0], segments.blocks

        def fold(x):
            return ops.reshape(x, (-1, *x.shape[2:]))

        def fold_for_all(x):
            return fold(x if x.shape[0] != 1 else ops.tile(x, (batch,) + (1,) * (len(x.shape) - 1)))

        def with_summaries(x):
            summaries = ops.expand_dims(segments.summarize(x), 1)                              # (B, 1, N, K, D)
            return ops.concatenate([blocks.cut(x), ops.repeat(summaries, blocks.rounds, axis=1)], axis=2)

        at = blocks.cut(positions.query)                                                       # (1, N, W)
        middles = ops.broadcast_to(segments.middles[:, None], (1, blocks.rounds, blocks.rounds))
        keys_at = ops.concatenate([blocks.cut(positions.key), middles], axis=2)                # (1, N, W + N)
        seen = ops.concatenate([segments.own, segments.others], axis=3)                        # (B or 1, N, W, W + N)
        folded_query = fold(blocks.cut(query))                                                 # (B * N, W, H, D)
        bias = position.score_bias(folded_query, column(fold_for_all(at)), row(fold_for_all(keys_at)))
        mixed = dot_product_attention(folded_query, fold(with_summaries(key)), fold(with_summaries(value)),
                                      ops.expand_dims(fold_for_all(seen), 1), bias, **options)
        return blocks.join(ops.reshape(mixed, (-1, blocks.rounds, *mixed.shape[1:])))          # (B, T, H, D)

    def scores(self, query, key, positions, mask, position, scale=None):
        """Of a token in another segment: the score of its summary, of which it has its share."""
        _require_one_sequence(query, key)
        length = query.shape[1]
        positions, order = in_order(positions, length)
        if order is not None:
            query, key = reorder(query, order), reorder(key, order)
        segments = _Segments(query, key, positions, mask, self.segment_size)
        at, keys_at = column(positions.query), row(positions.key)
        own = attention_scores(query, key, visible_pairs(positions, mask), position.score_bias(query, at, keys_at),
                               scale)                                                          # (B, H, T, T)
        bias = position.score_bias(query, at, row(segments.middles))
        others = attention_scores(query, segments.summarize(key), None, bias, scale)           # (B, H, T, N)
        others = ops.where(ops.expand_dims(segments.blocks.join(segments.others), 1),
                           others - ops.expand_dims(ops.log(segments.sizes), (1, 2)), MASKED_SCORE)
        others = ops.repeat(others, self.segment_size, axis=3)[..., :length]
        if positions.padding_mask is not None:
            others = ops.where(row(positions.padding_mask), others, MASKED_SCORE)
        same = positions.query[:, :, None] // self.segment_size == positions.key[:, None] // self.segment_size
        scores = ops.where(same[:, None], own, others)
        if order is None:
            return scores
        back = ops.argsort(order, axis=1)
        scores = ops.take_along_axis(scores, ops.expand_dims(back, (1, 2)), axis=3)
        return ops.take_along_axis(scores, ops.expand_dims(back, (1, 3)), axis=2)


class _Segments:
    """What a sequence in order holds: who sees which tokens of the own segment, and which summaries.

    Attributes:
        blocks: `Blocks`.
        sizes: float32 (B or 1, N), real tokens of each segment, at least 1.
        middles: int32 (1, N), where a summary stands for biases by distance.
        own: boolean (B or 1, N, W, W).
        others: boolean (B or 1, N, W, N).
    """

    def __init__(self, query, key, positions, mask, size):
        self.blocks = Blocks(query.shape[1], size)
        real = positions.padding_mask
        real = self.blocks.cut(ops.cast(np.ones((1, query.shape[1])) if real is None else real, "float32"))
        self._real = real                                                               # (B or 1, N, W)
        count = ops.sum(real, axis=2)
        self.sizes = ops.maximum(count, 1.0)
        first = np.arange(self.blocks.rounds, dtype="int32")[None] * size               # (1, N)
        self.middles = first + size // 2
        at = self.blocks.cut(positions.query)                                           # (1, N, W)
        queries = ops.reshape(at, (1, 1, -1, 1))

        def allowed(keys):  # int32 (1, N): (1, N, W, N)
            answer = mask(queries, keys[:, None, None])
            shape = (1, self.blocks.rounds, size, self.blocks.rounds)
            return np.ones(shape, bool) if answer is None else ops.reshape(answer, shape)

        other = ~np.eye(self.blocks.rounds, dtype=bool)[None, :, None]                  # (1, N, 1, N)
        seen = allowed(first) & allowed(first + size - 1) & other                       # all of a segment's tokens
        self.others = ops.logical_and(seen, ops.expand_dims(count > 0, (1, 2)))         # (B or 1, N, W, N)
        folded = ops.reshape(at, (-1, size))                                            # (N, W)
        own = mask(column(folded), row(folded))
        own = np.ones((1, 1, 1, 1), bool) if own is None else ops.swapaxes(own, 0, 1)   # (1, N, W, W)
        pairs = np.ones((1, self.blocks.rounds, size, size), bool)
        self.own = ops.logical_and(ops.logical_and(own, pairs), ops.expand_dims(real > 0, 2))

    def summarize(self, x):
        """The mean over the real tokens of each segment: (B, T, K, D) -> (B, N, K, D)."""
        weights = ops.expand_dims(ops.cast(self._real / ops.expand_dims(self.sizes, 2), x.dtype), (3, 4))
        return ops.sum(self.blocks.cut(x) * weights, axis=2)


def _require_one_sequence(query, key):
    if not is_one_sequence(query, key):
        raise ValueError("Hierarchical attention works on one whole sequence of known length: it cannot go on from a "
                         f"cache. Received: {query.shape[1]} queries and {key.shape[1]} keys.")

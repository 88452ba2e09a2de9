"""Windows and global tokens: attention to neighbours, and to a few tokens that see all and are seen by all.

Source: Beltagy et al. 2020, section 3.1 (arXiv 2004.05150).
"""
from typing import Any, NamedTuple

import keras
from keras import ops

from kzoo.layers.attention import Attention
from kzoo.layers.attention_function import attention_scores, dot_product_attention
from kzoo.layers.looking import AttentionMap, layer_path
from kzoo.layers.patterns import column, row
from kzoo.layers.projection import project
from kzoo.layers.seeds import WeightDropout
from kzoo.layers.sliding_window import SharedKeys


class GlobalTokens(NamedTuple):
    """The tokens of a call that see all and are seen by all, G at most.

    Attributes:
        select: float (B, G, T): row g is 1 where the g-th of them stands. A product with it picks their rows, exactly,
            and one with its transpose puts rows back, where gathers and scatters are slow or not to be had.
        visible: bool (B, G), False where a row has fewer.
        mask: bool (B, T).
    """
    select: Any
    visible: Any
    mask: Any


def find_global_tokens(mask, count, dtype):
    """`GlobalTokens` of a bool mask (B, T): of each row the first `count`."""
    rank = running_count(mask) - 1                                                       # (B, T)
    mask = mask & (rank < count)
    places = ops.expand_dims(rank, 1) == ops.reshape(ops.arange(count, dtype="int32"), (1, -1, 1))
    places = places & ops.expand_dims(mask, 1)                                           # (B, G, T)
    return GlobalTokens(ops.cast(places, dtype), ops.any(places, axis=2), mask)


def running_count(mask):
    """`kzoo.global_tokens.running_count` of a tensor."""
    return ops.cumsum(ops.cast(mask, "int32"), axis=1)


class GlobalPositions(NamedTuple):
    """`Positions`, and which tokens are global.

    Attributes:
        token, query, key, padding_mask: see `Positions`.
        chosen: `GlobalTokens`.
    """
    token: Any
    query: Any
    key: Any
    padding_mask: Any
    chosen: Any


@keras.saving.register_keras_serializable("kzoo")
class LongformerAttention(Attention):
    """Attention within the windows of its pattern, a `SlidingWindow`, and of global tokens to all and of all to them.

    A token's one softmax is over its window and the global tokens; one that is both counts once. Global tokens attend
    to all, with projections of their own; the projection of the output is shared. With positions that tell of no global
    tokens it is `Attention`.

    Source: Beltagy et al. 2020, section 3.1 (arXiv 2004.05150).
    """

    whole_rows = True  # global tokens are found in them

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.query_global = self._dense(self.num_heads * self.head_dim, "query_global")
        self.key_global = self._dense(self.num_heads * self.head_dim, "key_global")
        self.value_global = self._dense(self.num_heads * self.head_dim, "value_global")

    def build(self, x_shape, *args, **kwargs):
        super().build(x_shape, *args, **kwargs)
        for layer in (self.query_global, self.key_global, self.value_global):
            layer.build((None, x_shape[-1]))

    def call(self, x, positions, cache=None, context=None, training=None):
        """See `Attention.call`; `positions` may be `GlobalPositions`. There is no cache: an encoder has no use for it.
        """
        chosen = getattr(positions, "chosen", None)
        if chosen is None:
            return super().call(x, positions, cache, context, training)
        return project(self.output_dense, self._mix(x, positions, WeightDropout(self.dropout, training))), None

    def _mix(self, x, positions, dropout):
        """(B, T, H * D) of `GlobalPositions`."""
        chosen = positions.chosen
        mask = chosen.mask
        others = ~mask if positions.padding_mask is None else positions.padding_mask & ~mask
        x_global = ops.matmul(ops.cast(chosen.select, x.dtype), x)                        # (B, G, E)
        shared = SharedKeys(*self._keys_and_values(x_global, positions.token), chosen.visible)
        query = project(self.query, x, (self.num_heads, self.head_dim))                   # (B, T, H, D)
        key, value = self._keys_and_values(x, positions.token)
        near = self.pattern.attend(
            query, key, value, positions._replace(query=positions.key, padding_mask=others), self.mask, self.position,
            shared=shared, scale=self.scale, dropout=dropout)                             # (B, T, H, D)
        far = self._attend_to_all(x_global, x, positions.padding_mask, dropout)           # (B, G, H * D)
        near = ops.reshape(near, (-1, ops.shape(x)[1], far.shape[-1]))                    # (B, T, H * D)
        far = ops.matmul(ops.transpose(ops.cast(chosen.select, far.dtype), (0, 2, 1)), far)
        return ops.where(ops.expand_dims(mask, -1), far, near)

    def attention_map(self, x, positions, cache=None, context=None, training=None):
        """The `AttentionMap` of a call."""
        chosen = getattr(positions, "chosen", None)
        if chosen is None:
            return super().attention_map(x, positions, cache, context, training)
        heads = self.num_heads, self.head_dim
        near = project(self.query, x, heads)                                              # (B, T, H, D)
        key, value = self._keys_and_values(x, positions.token)
        far, key_global, value_global = (
            project(layer, x, heads) for layer in (self.query_global, self.key_global, self.value_global))
        seen = self.pattern.visible(column(positions.key), row(positions.key), self.num_heads) | row(chosen.mask)
        real = None if positions.padding_mask is None else row(positions.padding_mask)
        seen = seen if real is None else seen & real
        scores = ops.where(column(chosen.mask), attention_scores(far, key_global, real, scale=self.scale),
                           attention_scores(near, key, seen, scale=self.scale))
        mixed = ops.reshape(self._mix(x, positions, None), ops.shape(near))
        return AttentionMap.of_scores(layer_path(self.query), scores, value, mixed, chosen.mask, value_global)

    def _attend_to_all(self, x_global, x, padding_mask, dropout):
        """What global tokens (B, G, E) make of all (B, T, E): (B, G, H * D)."""
        heads, width = self.num_heads, self.head_dim
        query = project(self.query_global, x_global, (heads, width))                      # (B, G, H, D)
        visible = None if padding_mask is None else row(padding_mask)
        if x_global.shape[1] >= width:
            key, value = (project(layer, x, (heads, width)) for layer in (self.key_global, self.value_global))
            mixed = dot_product_attention(query, key, value, visible, scale=self.scale, dropout=dropout)
            return ops.reshape(mixed, (-1, x_global.shape[1], heads * width))
        # A few queries, projected back, are cheaper to compare with the tokens than the tokens are to project:
        # q . (W x + b) = (W^T q) . x + q . b, and sum of p (W x + b) = W (sum of p x) + b.
        scale = width ** -0.5 if self.scale is None else self.scale
        key_kernel, value_kernel = (
            ops.reshape(ops.cast(layer.kernel, x.dtype), (-1, heads, width))              # (E, H, D)
            for layer in (self.key_global, self.value_global))
        query = ops.transpose(query, (0, 2, 1, 3))                                        # (B, H, G, D)
        folded = ops.transpose(ops.matmul(query, ops.transpose(key_kernel, (1, 2, 0))), (0, 2, 1, 3))  # (B, G, H, E)
        bias = None
        if self.use_bias:
            key_bias = ops.reshape(ops.cast(self.key_global.bias, x.dtype), (heads, width, 1))
            bias = ops.matmul(query, key_bias) * scale                                    # (B, H, G, 1)
        tokens = ops.expand_dims(x, 2)                                                    # (B, T, 1, E)
        mixed = dot_product_attention(folded, tokens, tokens, visible, bias, scale, dropout)
        mixed = ops.matmul(ops.transpose(mixed, (0, 2, 1, 3)), ops.transpose(value_kernel, (1, 0, 2)))  # (B, H, G, D)
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, x_global.shape[1], heads * width))
        return mixed + ops.cast(self.value_global.bias, x.dtype) if self.use_bias else mixed

"""Which keys each query is compared with, and how they are gathered.

What all patterns share, and `Full`; the others have files of their own.
"""
import dataclasses
import functools
import operator

import keras
from keras import ops

from kzoo.layers.attention_function import attention_scores, dot_product_attention
from kzoo.layers.parts import Part


@dataclasses.dataclass(frozen=True)
class Pattern(Part):
    """Dense attention under a rule of the pattern's own.

    A pattern writes its rule, `visible`, and an `attend` that computes the same without looking at every pair. Where
    that does not apply (a few queries that go on from a cache, lengths that are unknown while a graph is traced) the
    rule alone decides, at the cost of full attention.

    Attributes:
        whole_rows: queries are always all tokens of the row; it cannot be asked for a few of them.
    """

    whole_rows = False

    def visible(self, query_positions, key_positions, num_heads):
        """Which pairs the pattern looks at: boolean, broadcastable to (B, H, T, S); None for all.

        Args:
            query_positions, key_positions: int32 (B or 1, 1, T, 1) and (B or 1, 1, 1, S).
            num_heads: H, where heads look at different pairs.
        """
        return None

    def attend(self, query, key, value, positions, mask, position, **options):
        """Attention of (B, T, H, D) queries over (B, S, K, D) keys and values.

        Args:
            positions: `Positions` of this call.
            mask: a rule of `kzoo.layers.masks`.
            position: a position part; asked for its score bias, and for its value bias if it has one.
            options: passed on to `dot_product_attention`.

        Returns: (B, T, H, D).
        """
        return dense_attention(query, key, value, positions, mask, position, self.visible, **options)

    def scores(self, query, key, positions, mask, position, scale=None):
        """What `attend` takes the softmax of, for every pair: float32 (B, H, T, S), for looking inside.

        Pairs that are not seen have a very low score. The softmax of it, times the values, is what `attend` gives.
        """
        seen = visible_pairs(positions, mask, functools.partial(self.visible, num_heads=query.shape[2]))
        bias = position.score_bias(query, column(positions.query), row(positions.key))
        return attention_scores(query, key, seen, bias, scale)

    def check(self, mask, position, num_heads):
        """Raise ValueError, saying why, for parts that this pattern cannot work with."""

    def for_layer(self, number):
        """The pattern of the layer with this number, from 0, where layers differ."""
        return self


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class Full(Pattern):
    """Every query is compared with every key: time and memory grow with T * S."""


def dense_attention(query, key, value, positions, mask, position, rule=None, heads=slice(None), **options):
    """Attention that compares every query with every key.

    Args:
        rule: as `Pattern.visible`; None looks at all pairs.
        heads: which of the H heads to compute.
        query, ...: see `Pattern.attend`.
    """
    query_positions, key_positions = column(positions.query), row(positions.key)
    if rule is not None:
        rule = functools.partial(rule, num_heads=query.shape[2])
    # Asked for with all heads, because a head's bias may depend on its number.
    bias = position.score_bias(query, query_positions, key_positions)
    if heads != slice(None):
        query, key, value = query[:, :, heads], key[:, :, heads], value[:, :, heads]
        bias = bias if bias is None or bias.shape[1] == 1 else bias[:, heads]
    return dot_product_attention(query, key, value, visible_pairs(positions, mask, rule), bias,
                                 value_bias=value_bias(position, query_positions, key_positions), **options)


def visible_pairs(positions, mask, rule=None):
    """The pairs that mask, rule and padding all allow: boolean, broadcastable to (B, H, T, S); None for all.

    Args:
        positions: `Positions`.
        mask, rule: functions of query and key positions; see `kzoo.layers.masks`.
    """
    query_positions, key_positions = column(positions.query), row(positions.key)
    allowed = [mask(query_positions, key_positions), rule and rule(query_positions, key_positions),
               None if positions.padding_mask is None else row(positions.padding_mask)]
    allowed = [each for each in allowed if each is not None]
    return functools.reduce(operator.and_, allowed) if allowed else None


def value_bias(position, query_positions, key_positions):
    """The position's `value_bias` as a function of the weights alone, or None if it has none."""
    find = getattr(position, "value_bias", None)
    return find and functools.partial(find, query_positions=query_positions, key_positions=key_positions)


# expand_dims rather than x[:, None, None]: the latter needs more than TFLite's builtins when sizes are dynamic.
def column(x):
    """Of queries: (B, T) -> (B, 1, T, 1)."""
    return ops.expand_dims(ops.expand_dims(x, 1), 3)


def row(x):
    """Of keys: (B, S) -> (B, 1, 1, S)."""
    return ops.expand_dims(ops.expand_dims(x, 1), 1)

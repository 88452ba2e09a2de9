"""Which keys each query is compared with, and how they are gathered."""
import dataclasses

import keras
from keras import ops

from kzoo.layers.attention_function import dot_product_attention
from kzoo.layers.parts import Part


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class Full(Part):
    """Every query is compared with every key: time and memory grow with T * S."""

    def attend(self, query, key, value, positions, mask, position, **options):
        """Attention of (B, T, H, D) queries over (B, S, K, D) keys and values.

        Args:
            positions: `Positions` of this call.
            mask: a rule of `kzoo.layers.masks`.
            position: a position part; asked for its score bias.
            options: passed on to `dot_product_attention`.

        Returns: (B, T, H, D).
        """
        query_positions = _column(positions.query)  # (B, 1, T, 1)
        key_positions = _row(positions.key)         # (B, 1, 1, S)
        visible = mask(query_positions, key_positions)
        if positions.padding_mask is not None:
            real = _row(positions.padding_mask)
            visible = real if visible is None else visible & real
        bias = position.score_bias(query, query_positions, key_positions)
        return dot_product_attention(query, key, value, mask=visible, bias=bias, **options)


# expand_dims rather than x[:, None, None]: the latter needs more than TFLite's builtins when sizes are dynamic.
def _column(x):
    return ops.expand_dims(ops.expand_dims(x, 1), 3)


def _row(x):
    return ops.expand_dims(ops.expand_dims(x, 1), 1)

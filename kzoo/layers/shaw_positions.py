"""Relative positions with a learned vector for each distance, on keys and on values."""
import math

import keras
from keras import ops

from kzoo.layers.parts import PositionPart


@keras.saving.register_keras_serializable("kzoo")
class ShawRelative(PositionPart, keras.layers.Layer):
    """The position part of attention that adds a trained vector by distance to every key and to every value.

        score(i, j) = q_i (k_j + key_table[j - i]) * scale,    output_i = sum_j w_ij (v_j + value_table[j - i])

    All heads share the tables; distances beyond `max_distance` share the vectors of the ends. Nothing of size T * S * D
    is made: queries are compared with the table, and weights are summed for each distance, in one pass over them a
    distance. A few are enough: the paper finds no gain beyond 4.

    Args:
        head_dim: D.
        max_distance: k; the tables have 2k + 1 rows, for key - query from -k to k.
        scale: factor on the scores, as that of the attention; None means 1 / sqrt(D).
        initializer: of the tables.

    Source: Shaw et al. 2018, equations 3, 4 and 5 (arXiv 1803.02155).
    """

    def __init__(self, head_dim, max_distance=4, scale=None, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        if max_distance < 1:
            raise ValueError(f"`max_distance` must be at least 1. Received: {max_distance}.")
        self.head_dim = head_dim
        self.max_distance = max_distance
        self.scale = scale
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape=None):
        shape = (2 * self.max_distance + 1, self.head_dim)
        self.key_table = self.add_weight(name="key_table", shape=shape, initializer=self.initializer.clone())
        self.value_table = self.add_weight(name="value_table", shape=shape, initializer=self.initializer.clone())

    def score_bias(self, query, query_positions, key_positions):
        """(B, H, T, S), for queries (B, T, H, D), int32 positions (B or 1, 1, T, 1) and (B or 1, 1, 1, S)."""
        scale = 1.0 / math.sqrt(self.head_dim) if self.scale is None else self.scale
        table = ops.cast(self.key_table, query.dtype)
        by_distance = ops.matmul(ops.transpose(query * scale, (0, 2, 1, 3)), ops.transpose(table))  # (B, H, T, 2k + 1)
        rows = self._rows(query_positions, key_positions)                                           # (B, 1, T, S)
        return sum(ops.where(rows == row, by_distance[..., row:row + 1], 0) for row in range(table.shape[0]))

    def value_bias(self, weights, query_positions, key_positions):
        """(B, T, H, D), what the values' table adds to values that are mixed by the weights (B, H, T, S)."""
        rows = self._rows(query_positions, key_positions)
        table = ops.cast(self.value_table, weights.dtype)
        by_distance = ops.stack([ops.sum(ops.where(rows == row, weights, 0), axis=-1)
                                 for row in range(table.shape[0])], axis=-1)                        # (B, H, T, 2k + 1)
        return ops.transpose(ops.matmul(by_distance, table), (0, 2, 1, 3))

    def _rows(self, query_positions, key_positions):
        distances = ops.clip(key_positions - query_positions, -self.max_distance, self.max_distance)
        return distances + self.max_distance

    def get_config(self):
        return {**super().get_config(), "head_dim": self.head_dim, "max_distance": self.max_distance,
                "scale": self.scale, "initializer": keras.initializers.serialize(self.initializer)}

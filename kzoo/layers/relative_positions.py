"""A learned bias on the scores for every distance between query and key, in buckets."""
import keras
import numpy as np
from keras import ops

from kzoo.layers.parts import PositionPart


def relative_buckets(num_buckets, max_distance, bidirectional):
    """The bucket of every distance from -max_distance to max_distance; what is further away shares those of the ends.

    Half of the buckets hold one distance each; the other half hold ranges that grow geometrically up to
    `max_distance`. Where a range begins is worked out in whole numbers, where published code rounds a logarithm in
    float32; the two agree wherever that rounding does not decide.

    Args:
        num_buckets: number of buckets.
        max_distance: from here on all distances share a bucket.
        bidirectional: True: keys after the query have half of the buckets. False: they share the bucket of distance 0.

    Returns: int32 (2 * max_distance + 1,), indexed by key - query + max_distance.
    Source: Raffel et al. 2020, section 2.1 (arXiv 1910.10683); the formula is in the paper's code, `mesh_tensorflow`.
    """
    buckets = num_buckets // 2 if bidirectional else num_buckets
    exact = buckets // 2
    ranges = buckets - exact

    def bucket(distance):
        if distance < exact:
            return distance
        # Range k begins where distance / exact reaches (max_distance / exact) ** (k / ranges).
        reached = [k for k in range(ranges)
                   if distance ** ranges * exact ** k >= max_distance ** k * exact ** ranges]
        return exact + reached[-1]

    distances = range(-max_distance, max_distance + 1)  # key - query
    if bidirectional:
        found = [bucket(abs(distance)) + buckets * (distance > 0) for distance in distances]
    else:
        found = [bucket(max(-distance, 0)) for distance in distances]
    return np.array(found, "int32")


def least_max_distance(num_buckets, bidirectional):
    """The smallest `max_distance` for which the ranges of `relative_buckets` grow."""
    return (num_buckets // 2 if bidirectional else num_buckets) // 2 + 1


@keras.saving.register_keras_serializable("kzoo")
class RelativePositionBias(PositionPart, keras.layers.Layer):
    """The position part of attention whose bias is a trained number for each head and bucket of distances.

    It owns its table; layers that are handed the same object share it.

    Args:
        num_heads: H.
        num_buckets, max_distance, bidirectional: see `relative_buckets`.
        initializer: of the table.

    Source: Raffel et al. 2020, section 2.1 (arXiv 1910.10683).
    """

    def __init__(self, num_heads, num_buckets=32, max_distance=128, bidirectional=True, initializer="glorot_uniform",
                 **kwargs):
        super().__init__(**kwargs)
        if num_buckets < (4 if bidirectional else 2):
            raise ValueError("`num_buckets` must be at least 2, and 4 where both directions have their own. "
                             f"Received: {num_buckets}.")
        if max_distance < least_max_distance(num_buckets, bidirectional):
            raise ValueError(f"`max_distance` must be at least {least_max_distance(num_buckets, bidirectional)} for "
                             f"{num_buckets} buckets. Received: {max_distance}.")
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bidirectional = bidirectional
        self.initializer = keras.initializers.get(initializer)
        self._buckets = relative_buckets(num_buckets, max_distance, bidirectional)

    def build(self, input_shape=None):
        self.embeddings = self.add_weight(
            name="embeddings", shape=(self.num_buckets, self.num_heads), initializer=self.initializer)

    def score_bias(self, query, query_positions, key_positions):
        """(B or 1, H, T, S), for int32 positions (B or 1, 1, T, 1) and (B or 1, 1, 1, S)."""
        distances = ops.squeeze(key_positions - query_positions, 1)                       # (B, T, S)
        distances = ops.clip(distances, -self.max_distance, self.max_distance)
        buckets = ops.take(self._buckets, distances + self.max_distance)                  # (B, T, S)
        bias = ops.take(self.embeddings, buckets, axis=0)                                 # (B, T, S, H)
        return ops.transpose(bias, (0, 3, 1, 2))                                          # (B, H, T, S)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads, "num_buckets": self.num_buckets,
                "max_distance": self.max_distance, "bidirectional": self.bidirectional,
                "initializer": keras.initializers.serialize(self.initializer)}

"""Transformer-XL's relative positions: how far away a key is, judged by what the query says."""
import math

import keras
import numpy as np
from keras import ops

from kzoo.layers.dropout import Dropout
from kzoo.layers.folding import sees_ahead
from kzoo.layers.parts import PositionPart
from kzoo.layers.patterns import Full
from kzoo.layers.positions import SinusoidalPositions
from kzoo.layers.projection import project


def relative_shift(scores):
    """Scores by distance become scores by key: without a gather, by moving row i left by T - 1 - i columns.

    One column in front of each row of S makes rows of S + 1; read as rows of T, each entry has moved by one place more
    than those of the row before it.

    Args:
        scores: (B, H, T, S); column m holds the scores of the distance S - 1 - m.

    Returns: (B, H, T, S); column j of row i holds the distance S - T + i - j. Where that is below 0, the key comes
        after the query, and the number means nothing: it must be masked.
    Source: Dai et al. 2019, appendix B (arXiv 1901.02860).
    """
    heads, length, keys = scores.shape[1], ops.shape(scores)[2], ops.shape(scores)[3]
    scores = ops.pad(scores, ((0, 0), (0, 0), (0, 0), (1, 0)))                   # (B, H, T, S + 1)
    scores = ops.reshape(scores, (-1, heads, keys + 1, length))[:, :, 1:]        # (B, H, S, T)
    return ops.reshape(scores, (-1, heads, length, keys))                        # (B, H, T, S)


@keras.saving.register_keras_serializable("kzoo")
class QueryBiases(keras.layers.Layer):
    """The two vectors a head that Transformer-XL puts in the place of the query's own position.

    Args:
        num_heads: H.
        head_dim: D.
        initializer: of both.

    Source: Dai et al. 2019, section 3.3 (arXiv 1901.02860): u is `content`, v is `position`.
    """

    def __init__(self, num_heads, head_dim, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape=None):
        shape = (self.num_heads, self.head_dim)
        self.content = self.add_weight(name="content", shape=shape, initializer=self.initializer.clone())
        self.position = self.add_weight(name="position", shape=shape, initializer=self.initializer.clone())

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads, "head_dim": self.head_dim,
                "initializer": keras.initializers.serialize(self.initializer)}


@keras.saving.register_keras_serializable("kzoo")
class TransformerXLPositions(PositionPart, keras.layers.Layer):
    """The position part of attention whose scores are ((q + u) . k + (q + v) . (W s(t))) / sqrt(D).

    t is the distance from query back to key and s(t) a sine wave of it, so that what is learned for one segment holds
    for all. Keys stand at consecutive positions, and no query sees a key after it (`Causal`, `Recent`): the numbers
    for such keys mean nothing. Other patterns and rules take `TransformerXLRelative`. The attention that is handed it
    leaves its `scale` at the default.

    Args:
        num_heads, head_dim: H and D.
        hidden_dim: width of the wave, even.
        clamp_length: distances above it count as it; None means none do.
        biases: the `QueryBiases` u and v, if several layers share them; None makes this part's own.
        dropout: probability of dropping a feature of the wave, 0 to 1. Each layer drops others; published code drops
            the same ones in all.
        initializer: of W and of the part's own biases.

    Source: Dai et al. 2019, section 3.3 (arXiv 1901.02860); clamping is in the paper's code.
    """

    def __init__(self, num_heads, head_dim, hidden_dim, clamp_length=None, biases=None, dropout=0.0,
                 initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        if clamp_length is not None and clamp_length < 1:
            raise ValueError(f"`clamp_length` must be at least 1, or None. Received: {clamp_length}.")
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.hidden_dim = hidden_dim
        self.clamp_length = clamp_length
        self.initializer = keras.initializers.get(initializer)
        dtype = self.dtype_policy
        self.biases = biases or QueryBiases(num_heads, head_dim, self.initializer.clone(), name="biases", dtype=dtype)
        self.waves = SinusoidalPositions(hidden_dim, interleaved=False, name="waves", dtype=dtype)
        self.dropout = Dropout(dropout, name="dropout", dtype=dtype)
        self.projection = keras.layers.Dense(num_heads * head_dim, use_bias=False, name="projection", dtype=dtype,
                                             kernel_initializer=self.initializer.clone())

    def check(self, mask, pattern):
        if type(pattern) is not Full or sees_ahead(mask):
            raise ValueError(f"TransformerXLPositions shifts scores, and so needs all keys up to the query, in order: "
                             f"`Full` under a causal mask. Received: {type(pattern).__name__} under "
                             f"{type(mask).__name__}; give `TransformerXLRelative` instead.")

    def build(self, input_shape=None):
        if not self.biases.built:
            self.biases.build(None)
        self.projection.build((None, self.hidden_dim))

    def shift_query(self, query):
        """q + u, what is compared with the keys."""
        return query + ops.cast(self.biases.content, query.dtype)

    def score_bias(self, query, query_positions, key_positions):
        """(q + v) . (W s(t)) / sqrt(D), (B, H, T, S), for the shifted queries q + u.

        Args:
            query: (B, T, H, D).
            query_positions, key_positions: int32 (B or 1, 1, T, 1) and (B or 1, 1, 1, S), consecutive as far as keys
                may be seen; only the last of each is read.
        """
        keys = ops.shape(key_positions)[3]
        back = np.arange(keys, dtype="int32") if isinstance(keys, int) else ops.arange(keys, dtype="int32")
        last = query_positions[:, 0, -1:, 0] - key_positions[:, 0, 0, -1:]                 # (B or 1, 1)
        distances = last + ops.flip(ops.expand_dims(back, 0), axis=1)                      # (B or 1, S)
        if self.clamp_length is not None:
            distances = ops.minimum(distances, self.clamp_length)
        waves = self.dropout(self.waves(distances))                                        # (B or 1, S, hidden_dim)
        table = project(self.projection, waves, (self.num_heads, self.head_dim))           # (B or 1, S, H, D)
        # As many tables as there are rows: TensorFlow's oneDNN kernels crash on a product that spreads one over all.
        table = ops.broadcast_to(ops.cast(table, query.dtype), (ops.shape(query)[0], *ops.shape(table)[1:]))
        biases = ops.cast(self.biases.position, query.dtype) - ops.cast(self.biases.content, query.dtype)
        query = ops.transpose((query + biases) * (1.0 / math.sqrt(self.head_dim)), (0, 2, 1, 3))  # (B, H, T, D)
        scores = ops.matmul(query, ops.transpose(table, (0, 2, 3, 1)))                      # (B, H, T, S)
        return relative_shift(scores)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads, "head_dim": self.head_dim,
                "hidden_dim": self.hidden_dim, "clamp_length": self.clamp_length, "dropout": self.dropout.rate,
                "biases": keras.saving.serialize_keras_object(self.biases),
                "initializer": keras.initializers.serialize(self.initializer)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "biases": keras.saving.deserialize_keras_object(config["biases"])})


@keras.saving.register_keras_serializable("kzoo")
class TransformerXLRelative(TransformerXLPositions):
    """The same scores for keys that stand anywhere, in any pattern and also after the query, without a shift.

    With a and b for the sines' and cosines' parts of W^T (q + v), and p and s for the positions of query and key,

        a sin((p - s) w) + b cos((p - s) w) = sin(s w) (b sin(p w) - a cos(p w)) + cos(s w) (a sin(p w) + b cos(p w)),

    so that queries are turned to their own place, and then compared with the waves of the keys' places: a product of
    `hidden_dim` numbers a pair, where the shift takes `head_dim`. Distances are not clamped.

    Args:
        num_heads, head_dim, hidden_dim, initializer: those of `TransformerXLPositions`.
        scale: factor on the scores, as that of the attention; None means 1 / sqrt(D).
    """

    def __init__(self, num_heads, head_dim, hidden_dim, scale=None, initializer="glorot_uniform", **kwargs):
        super().__init__(num_heads, head_dim, hidden_dim, initializer=initializer, **kwargs)
        self.scale = scale

    def check(self, mask, pattern):
        """Works with all."""

    def score_bias(self, query, query_positions, key_positions):
        """(q + v) . (W s(t)) * scale, (B, H, T, S), for the shifted queries q + u.

        Args:
            query: (B, T, H, D).
            query_positions, key_positions: int32 (B or 1, 1, T, 1) and (B or 1, 1, 1, S).
        """
        heads, width, dtype = self.num_heads, self.hidden_dim, query.dtype
        batch, length, keys = ops.shape(query)[0], ops.shape(query)[1], ops.shape(key_positions)[3]
        scale = 1.0 / math.sqrt(self.head_dim) if self.scale is None else self.scale
        biases = ops.cast(self.biases.position, dtype) - ops.cast(self.biases.content, dtype)
        query = ops.reshape(ops.transpose((query + biases) * scale, (2, 0, 1, 3)), (heads, -1, self.head_dim))
        kernel = ops.reshape(ops.cast(self.projection.kernel, dtype), (width, heads, self.head_dim))
        weights = ops.matmul(query, ops.transpose(kernel, (1, 2, 0)))                       # (H, B * T, hidden_dim)
        weights = ops.transpose(ops.reshape(weights, (heads, -1, length, width)), (1, 0, 2, 3))  # (B, H, T, hidden_dim)
        a, b = weights[..., :width // 2], weights[..., width // 2:]
        here = ops.cast(self.waves(query_positions[:, 0, :, 0]), dtype)                     # (B or 1, T, hidden_dim)
        here = ops.expand_dims(here, 1)
        sine, cosine = here[..., :width // 2], here[..., width // 2:]
        turned = ops.concatenate([b * sine - a * cosine, a * sine + b * cosine], axis=-1)
        there = ops.cast(self.waves(key_positions[:, 0, 0]), dtype)                         # (B or 1, S, hidden_dim)
        there = ops.broadcast_to(ops.transpose(there, (0, 2, 1)), (batch, width, keys))
        scores = ops.matmul(ops.reshape(turned, (-1, heads * length, width)), there)        # (B, H * T, S)
        return ops.reshape(scores, (-1, heads, length, keys))

    def get_config(self):
        config = super().get_config()
        for name in ("clamp_length", "dropout"):
            del config[name]
        return {**config, "scale": self.scale}

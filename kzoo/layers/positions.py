"""Where tokens are, and how a model is told.

`locate` works out absolute positions once a call. Learned and sinusoidal positions are added to the embeddings;
rotary positions turn queries and keys; ALiBi adds a bias to the scores. The last two are parts of attention.
"""
import dataclasses
import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kzoo.errors import unknown
from kzoo.layers.cache import RingCache
from kzoo.layers.parts import Part, PositionPart

FREE = 2**30  # the position of a slot that holds nothing yet: later than every query
SCALINGS = ("linear", "ntk")  # of rotary positions


class Positions(NamedTuple):
    """Absolute positions, counted over real tokens from 0; the batch axis is 1 where all rows agree.

    Attributes:
        token: int32 (B or 1, T), what embeddings and rotations use.
        query: int32 (B or 1, T), what masks and biases use for the queries; equals `token` unless the caller gave
            positions of its own.
        key: int32 (B or 1, S), for the keys, cached ones included.
        padding_mask: bool (B, S), True = a real token; None when every key is one.
    """
    token: Any
    query: Any
    key: Any
    padding_mask: Any


def locate(token_ids, padding_mask=None, positions=None, cache=None):
    """Positions of the tokens of this call and of every key they may attend to.

    Args:
        token_ids: int32 (B, T), or anything else with T on that axis.
        padding_mask: bool (B, S) over all keys: the cached ones, then these; for a static cache over all its slots,
            where slots still free count as real (the causal rule hides them); for a ring over all tokens from the
            text's first on, at least. None: there is no padding.
        positions: int32 (B or 1, T), to be used by embeddings and rotations instead of the count of real tokens.
        cache: one layer's cache, or None.
    """
    length = ops.shape(token_ids)[1]
    if isinstance(cache, RingCache):
        return _locate_in_ring(length, padding_mask, positions, cache)
    index = 0 if cache is None else cache.index
    static_size = None if cache is None or "index" not in cache._fields else cache.keys.shape[1]
    if padding_mask is not None:
        # A padded slot takes the number of the real token before it, so that both paddings number alike.
        key = ops.maximum(ops.cumsum(ops.cast(padding_mask, "int32"), axis=1) - 1, 0)  # (B, S)
    else:
        size = static_size if static_size is not None else index + length
        key = ops.expand_dims(_count(size), 0)                                         # (1, S)
    if cache is None:
        query = key
    elif static_size is None:
        query = key[:, index:]
    elif padding_mask is None:
        query = ops.expand_dims(index + _count(length), 0)                             # (1, T)
    else:
        query = ops.take(key, index + _count(length), axis=1)                          # (B, T)
    return Positions(query if positions is None else positions, query, key, padding_mask)


def _locate_in_ring(length, padding_mask, positions, cache):
    """`locate` where the keys are the last ones before these tokens, and these."""
    capacity = cache.keys.shape[1]
    slots = cache.index - capacity + _count(capacity + length)                         # (C + T,)
    key, real = ops.expand_dims(slots, 0), None                                        # (1, C + T)
    if padding_mask is not None:
        counts = ops.maximum(ops.cumsum(ops.cast(padding_mask, "int32"), axis=1) - 1, 0)
        key, real = (ops.take(x, ops.maximum(slots, 0), axis=1) for x in (counts, padding_mask))
    key = ops.where(slots < 0, FREE, key)                                              # (B, C + T)
    query = key[:, capacity:]
    return Positions(query if positions is None else positions, query, key, real)


def _count(size):
    """0 .. size - 1, as a constant where the size is known, so that masks made of it are constants too."""
    return np.arange(size, dtype="int32") if isinstance(size, int) else ops.arange(size, dtype="int32")


@keras.saving.register_keras_serializable("kzoo")
class LearnedPositions(keras.layers.Layer):
    """One trained vector a position.

    Args:
        max_sequence_length: number of positions; the caller checks that none is beyond.
        hidden_dim: width of a vector.
    """

    def __init__(self, max_sequence_length, hidden_dim, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.max_sequence_length = max_sequence_length
        self.hidden_dim = hidden_dim
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        self.embeddings = self.add_weight(
            name="embeddings", shape=(self.max_sequence_length, self.hidden_dim), initializer=self.initializer)

    def call(self, positions):
        """int32 (B or 1, T) -> (B or 1, T, E)."""
        return ops.take(ops.cast(self.embeddings, self.compute_dtype), positions, axis=0)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.hidden_dim)

    def get_config(self):
        return {**super().get_config(), "max_sequence_length": self.max_sequence_length,
                "hidden_dim": self.hidden_dim, "initializer": keras.initializers.serialize(self.initializer)}


@keras.saving.register_keras_serializable("kzoo")
class SinusoidalPositions(keras.layers.Layer):
    """Fixed waves: PE[p, 2i] = sin(p / 10000^(2i/E)), PE[p, 2i+1] = cos of the same.

    Args:
        hidden_dim: E, even.
        interleaved: False puts all sines in the first half and all cosines in the second, as Marian does.

    Source: Vaswani et al. 2017, section 3.5 (arXiv 1706.03762).
    """

    def __init__(self, hidden_dim, interleaved=True, **kwargs):
        super().__init__(**kwargs)
        if hidden_dim % 2:
            raise ValueError(f"`hidden_dim` must be even for sinusoidal positions. Received: {hidden_dim}.")
        self.hidden_dim = hidden_dim
        self.interleaved = interleaved

    def call(self, positions):
        """int32 (B or 1, T) -> (B or 1, T, E)."""
        frequencies = 10000.0 ** (-np.arange(0, self.hidden_dim, 2) / self.hidden_dim)            # (E/2,)
        angles = ops.expand_dims(ops.cast(positions, "float32"), -1) * frequencies.astype("float32")  # (B, T, E/2)
        if self.interleaved:
            waves = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)                        # (B, T, E/2, 2)
            waves = ops.reshape(waves, (-1, ops.shape(positions)[1], self.hidden_dim))            # (B, T, E)
        else:
            waves = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)                  # (B, T, E)
        return ops.cast(waves, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.hidden_dim)


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class NoPosition(PositionPart, Part):
    """Attention that is told nothing of positions; the base of those without weights that are."""


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class Rotary(NoPosition):
    """Turns each pair of features by an angle that grows with the position: score(p + s, q + s) does not depend on s.

    Pair i of D/2 turns by p * base^(-2i/D). Pairs are (i, i + D/2), the half-split form of published checkpoints.

    Attributes:
        base: of the angles.
        scaling: how a model reads texts `factor` times as long as those it was trained on. "linear" divides positions
            by the factor. "ntk" makes the base larger instead, base * factor^(D / (D-2)): the slowest pair turns as
            with "linear", the fastest as ever.
        factor: at least 1.

    Source: Su et al. 2021, equation 34 (arXiv 2104.09864); linear: Chen et al. 2023, section 2.3 (arXiv 2306.15595);
    ntk: Peng et al. 2023, section 3.1 (arXiv 2309.00071).
    """
    base: float = 10000.0
    scaling: str | None = None
    factor: float = 1.0

    def __post_init__(self):
        if self.scaling not in (None, *SCALINGS):
            raise ValueError(unknown("scaling of rotary positions", self.scaling, SCALINGS))
        if self.factor < 1 or (self.factor != 1 and self.scaling is None):
            raise ValueError("`factor` must be at least 1, and 1 without a `scaling`. "
                             f"Received: {self.factor} with scaling={self.scaling!r}.")

    def frequencies(self, width):
        """By how much each of the D/2 pairs turns from one position to the next: float64 (D/2,)."""
        exponents = -np.arange(0, width, 2) / width
        if self.scaling == "ntk":  # a single pair turns at the same speed for every base
            return (self.base * self.factor ** (width / max(1, width - 2))) ** exponents
        return self.base ** exponents / (self.factor if self.scaling else 1.0)

    def rotate(self, x, positions):
        width = x.shape[-1]
        if width % 2:
            raise ValueError(f"Rotary positions need an even head_dim. Received: {width}.")
        frequencies = self.frequencies(width).astype("float32")                                   # (D/2,)
        angles = ops.expand_dims(ops.cast(positions, "float32"), -1) * frequencies                # (B, T, D/2)
        cosine = ops.expand_dims(ops.cast(ops.cos(angles), x.dtype), 2)                           # (B, T, 1, D/2)
        sine = ops.expand_dims(ops.cast(ops.sin(angles), x.dtype), 2)
        first, second = x[..., :width // 2], x[..., width // 2:]
        return ops.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class ALiBi(NoPosition):
    """A penalty that grows with the distance: bias = -slope_h * |i - j|, a slope of its own for each head.

    Source: Press et al. 2021, section 3 (arXiv 2108.12409). The published code adds slope * j, which differs by a
    constant per row and so does not change the softmax; this form stays bounded.
    """

    def score_bias(self, query, query_positions, key_positions):
        slopes = alibi_slopes(query.shape[2]).astype("float32").reshape(1, -1, 1, 1)
        distance = ops.abs(ops.cast(query_positions - key_positions, "float32"))  # (B, 1, T, S)
        return -slopes * distance                                                 # (B, H, T, S)


def alibi_slopes(num_heads):
    """2^(-8h/H) for H a power of two; else those of the power below, then every second one of the power above."""
    lower = 2 ** int(math.log2(num_heads))
    slopes = 2.0 ** (-8.0 * np.arange(1, lower + 1) / lower)
    if lower == num_heads:
        return slopes
    extra = 2.0 ** (-8.0 * np.arange(1, 2 * lower + 1, 2) / (2 * lower))
    return np.concatenate([slopes, extra[:num_heads - lower]])

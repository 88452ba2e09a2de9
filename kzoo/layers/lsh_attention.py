"""The layer of attention among keys that share a hash bucket."""
import math

import keras
import numpy as np
from keras import ops

from kzoo.layers.chunks import static_length
from kzoo.layers.dropout import Dropout
from kzoo.layers.looking import AttentionMap, layer_path
from kzoo.layers.lsh import bucket_sizes, lsh_attention, lsh_buckets, lsh_scores, shared_attention
from kzoo.layers.masks import Everything
from kzoo.layers.projection import project
from kzoo.layers.seeds import WeightDropout


@keras.saving.register_keras_serializable("kzoo")
class LSHAttention(keras.layers.Layer):
    """Multi-head attention whose queries are its keys, each token attending within its hash buckets.

    Args:
        num_heads, head_dim, hidden_dim: H, D, E.
        num_buckets: even, or a tuple of even numbers whose product is meant.
        num_hashes: R, rounds.
        chunk_length: W; up to this length attention is full.
        chunks_before, chunks_after: neighbours that a chunk attends to.
        mask: who may see whom, a rule of `kzoo.layers.masks`.
        count_once: see `lsh_attention`.
        dropout: probability of dropping a weight, 0 to 1.
        seed: of the rotations, which are weights that are not trained: the same seed gives the same ones everywhere.

    Which keys a token meets depends on the buckets of all tokens, also of those that a causal mask hides from it.
    """

    def __init__(self, num_heads, head_dim, hidden_dim, num_buckets, num_hashes=1, chunk_length=64, chunks_before=1,
                 chunks_after=0, mask=Everything(), count_once=False, dropout=0.0, seed=0,  # noqa: B008
                 kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.hidden_dim = hidden_dim
        self.num_buckets = tuple(num_buckets) if isinstance(num_buckets, (list, tuple)) else num_buckets
        self.num_hashes = num_hashes
        self.chunk_length = chunk_length
        self.chunks_before = chunks_before
        self.chunks_after = chunks_after
        self.mask = mask
        self.count_once = count_once
        self.seed = seed
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.query_key, self.value, self.output_dense = (
            keras.layers.Dense(units, use_bias=False, kernel_initializer=self.kernel_initializer.clone(), name=name,
                               dtype=self.dtype_policy)
            for units, name in ((num_heads * head_dim, "query_key"), (num_heads * head_dim, "value"),
                                (hidden_dim, "output")))
        bucket_sizes(self.num_buckets)

    def build(self, x_shape, *args, **kwargs):
        self.query_key.build((None, x_shape[-1]))
        self.value.build((None, x_shape[-1]))
        self.output_dense.build((None, self.num_heads * self.head_dim))
        shape = (self.num_heads, self.head_dim, self.num_hashes, sum(bucket_sizes(self.num_buckets)) // 2)
        self.rotations = self.add_weight(name="rotations", shape=shape, trainable=False, autocast=False,
                                         initializer=SeededNormal(self.seed))

    def call(self, x, positions, buckets=None, rotations=None, training=None):
        """Attend.

        Args:
            x: (B, T, E); T is at most `chunk_length`, or a multiple of it.
            positions: `Positions` of the call; only its padding mask is used.
            buckets: int32 (B, H, R, T), instead of those that are computed.
            rotations: instead of the layer's.

        Returns: (y, buckets): (B, T, E), and the buckets that were used; None where attention is full.
        """
        query_key, value = self._project(x)                                                      # (B, T, H, D)
        buckets = self._find_buckets(query_key, positions, buckets, rotations)
        mixed = self._mix(query_key, value, buckets, positions, WeightDropout(self.dropout, training))
        mixed = ops.reshape(mixed, (-1, x.shape[1], self.num_heads * self.head_dim))
        return project(self.output_dense, mixed), buckets

    def attention_map(self, x, positions, buckets=None, rotations=None, training=None):
        """The `AttentionMap` of a call. A key that a token meets n times has n times the weight, unless it counts once:
        the rounds together are one softmax over all that they compare."""
        query_key, value = self._project(x)
        buckets = self._find_buckets(query_key, positions, buckets, rotations)
        scores = lsh_scores(query_key, buckets, self.chunk_length, self.chunks_before, self.chunks_after, self.mask,
                            positions.padding_mask, self.count_once)
        return AttentionMap.of_scores(layer_path(self.query_key), scores, value,
                                      self._mix(query_key, value, buckets, positions, None))

    def _project(self, x):
        shape = (self.num_heads, self.head_dim)
        return project(self.query_key, x, shape), project(self.value, x, shape)

    def _find_buckets(self, query_key, positions, buckets, rotations):
        """Those that were given, or computed ones; None where attention is full."""
        length = static_length(query_key, self.chunk_length, "chunk_length")
        if length <= self.chunk_length:
            return None
        if buckets is not None:
            return buckets
        self._check(length)
        return lsh_buckets(query_key, self.rotations if rotations is None else rotations, self.num_buckets,
                           positions.padding_mask)

    def _mix(self, query_key, value, buckets, positions, dropout):
        if buckets is None:
            return shared_attention(query_key, value, self.mask, positions.padding_mask, dropout)
        return lsh_attention(query_key, value, buckets, self.chunk_length, self.chunks_before, self.chunks_after,
                             self.mask, positions.padding_mask, self.count_once, dropout)

    def _check(self, length):
        if (math.prod(bucket_sizes(self.num_buckets)) + 1) * length >= 2 ** 31:
            raise ValueError("The number of buckets times the length must stay below 2^31. "
                             f"Received: {self.num_buckets} and {length}.")

    def compute_output_shape(self, x_shape, *args, **kwargs):
        return (*x_shape[:-1], self.hidden_dim), None

    def get_config(self):
        names = ("num_heads", "head_dim", "hidden_dim", "num_buckets", "num_hashes", "chunk_length", "chunks_before",
                 "chunks_after", "count_once", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}, "dropout": self.dropout.rate,
                "mask": keras.saving.serialize_keras_object(self.mask),
                "kernel_initializer": keras.initializers.serialize(self.kernel_initializer)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "mask": keras.saving.deserialize_keras_object(config["mask"])})


@keras.saving.register_keras_serializable("kzoo")
class SeededNormal(keras.initializers.Initializer):
    """Standard normal numbers that depend on the seed and the shape alone: not on the backend, nor on what was drawn
    before."""

    def __init__(self, seed):
        self.seed = seed

    def __call__(self, shape, dtype=None):
        return ops.convert_to_tensor(np.random.default_rng(self.seed).normal(size=shape), dtype or "float32")

    def get_config(self):
        return {"seed": self.seed}

"""The one attention layer: it holds the weights and is handed its parts."""
import keras
from keras import ops

from kzoo.layers.attention_function import dot_product_attention
from kzoo.layers.cache import ContextCache
from kzoo.layers.dropout import Dropout
from kzoo.layers.looking import AttentionMap, layer_path
from kzoo.layers.masks import Everything
from kzoo.layers.patterns import Full
from kzoo.layers.positions import NoPosition
from kzoo.layers.projection import project
from kzoo.layers.seeds import WeightDropout

__all__ = ["Attention", "dot_product_attention"]

# The arguments that are objects of their own.
PARTS = ("mask", "position", "pattern", "kernel_initializer", "output_initializer", "query_initializer")


@keras.saving.register_keras_serializable("kzoo")
class Attention(keras.layers.Layer):
    """Multi-head attention built from parts.

        x (B, T, E) --query--> (B, T, H, D) --rotate--+
                    --key----> (B, T, K, D) --rotate--+--cache--> pattern --> (B, T, H, D) --output--> (B, T, E)
                    --value--> (B, T, K, D) ----------+

    Args:
        num_heads: H.
        head_dim: D; H * D need not equal E.
        hidden_dim: E, the width of the output; None means H * D.
        num_key_value_heads: K, a divisor of H; None means H.
        mask: who may see whom, a rule of `kzoo.layers.masks`.
        position: a position part (`Rotary`, `ALiBi`, ...); one with weights may serve several layers.
        pattern: which keys are gathered (`Full`, ...).
        scale: factor on the scores; None means 1 / sqrt(D).
        dropout: probability of dropping a weight, 0 to 1.
        use_bias: False leaves out the four offsets.
        kernel_initializer, output_initializer: of the projections in, and of the one out.
        query_initializer: of the projection of queries; None means `kernel_initializer`.

    Source: Vaswani et al. 2017, section 3.2.2 (arXiv 1706.03762).
    """

    def __init__(self, num_heads, head_dim, hidden_dim=None, num_key_value_heads=None, mask=Everything(),  # noqa: B008
                 position=NoPosition(), pattern=Full(), scale=None, dropout=0.0, use_bias=True,  # noqa: B008
                 kernel_initializer="glorot_uniform", output_initializer="glorot_uniform", query_initializer=None,
                 **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.hidden_dim = hidden_dim or num_heads * head_dim
        self.num_key_value_heads = num_key_value_heads or num_heads
        if num_heads % self.num_key_value_heads:
            raise ValueError("`num_key_value_heads` must divide `num_heads`. "
                             f"Received: {num_key_value_heads} and {num_heads}.")
        self.mask = mask
        self.position = position
        self.pattern = pattern
        pattern.check(mask, position, num_heads)
        position.check(mask, pattern)
        self.scale = scale
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.output_initializer = keras.initializers.get(output_initializer)
        self.query_initializer = keras.initializers.get(query_initializer)
        self.dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        self.query = self._dense(num_heads * head_dim, "query", self.query_initializer)
        self.key = self._dense(self.num_key_value_heads * head_dim, "key")
        self.value = self._dense(self.num_key_value_heads * head_dim, "value")
        self.output_dense = self._dense(self.hidden_dim, "output", self.output_initializer)

    def _dense(self, units, name, initializer=None):
        return keras.layers.Dense(units, use_bias=self.use_bias, name=name, dtype=self.dtype_policy,
                                  kernel_initializer=(initializer or self.kernel_initializer).clone())

    def build(self, x_shape, positions_shape=None, cache_shape=None, context_shape=None):
        self.query.build((None, x_shape[-1]))
        for layer in (self.key, self.value):
            layer.build((None, (context_shape or x_shape)[-1]))
        self.output_dense.build((None, self.num_heads * self.head_dim))
        if isinstance(self.position, keras.layers.Layer) and not self.position.built:
            self.position.build(None)

    def call(self, x, positions, cache=None, context=None, training=None):
        """Attend.

        Args:
            x: (B, T, E).
            positions: `Positions` of the call, from `kzoo.layers.locate`; for cross-attention its keys are those of
                the context.
            cache: this layer's `GrowingCache` or `StaticCache`, or the `ContextCache` of cross-attention, or None.
            context: (B, S, E), where keys and values come from (cross-attention); None means x, or the
                `ContextCache`.

        Returns: (y, cache): (B, T, E), and the cache with this call's keys and values (None if there was none).
        """
        positions, query, key, value, cache = self._prepare(x, positions, cache, context)
        mixed = self.pattern.attend(
            query, key, value, positions, self.mask, self.position, scale=self.scale,
            dropout=WeightDropout(self.dropout, training))                            # (B, T, H, D)
        mixed = ops.reshape(mixed, (-1, ops.shape(x)[1], self.num_heads * self.head_dim))
        return project(self.output_dense, mixed), cache

    @property
    def whole_rows(self):
        """Whether x must be all the tokens of a row; see `Pattern`."""
        return self.pattern.whole_rows

    def attention_map(self, x, positions, cache=None, context=None, training=None):
        """The `AttentionMap` of a call."""
        positions, query, key, value, _ = self._prepare(x, positions, cache, context)
        parts = positions, self.mask, self.position
        scores = self.pattern.scores(query, key, *parts, self.scale)
        return AttentionMap.of_scores(layer_path(self.query), scores, value,
                                      self.pattern.attend(query, key, value, *parts, scale=self.scale))

    def _prepare(self, x, positions, cache, context):
        """What a pattern is handed, and the cache after it."""
        if cache is None and context is None:
            # One and the same object, which Keras may have made two of: patterns of blocks see by it that the row
            # attends to itself.
            positions = positions._replace(query=positions.key)
        query = project(self.query, x, (self.num_heads, self.head_dim))               # (B, T, H, D)
        query = self.position.shift_query(self.position.rotate(query, positions.token))
        if isinstance(cache, ContextCache):
            key, value = cache
        elif context is not None:
            key, value = self.read_context(context, positions)
        else:
            key, value = self._keys_and_values(x, positions.token)
        if cache is not None:
            if not isinstance(cache, ContextCache):
                key, value, cache = cache.append(key, value)                          # (B, S, K, D)
            key, value = ops.cast(key, query.dtype), ops.cast(value, query.dtype)
        return positions, query, key, value, cache

    def read_context(self, context, positions):
        """The `ContextCache` of (B, S, E): what every later call attends to, without computing it again."""
        return ContextCache(*self._keys_and_values(context, positions.key))

    def _keys_and_values(self, source, positions):
        shape = (self.num_key_value_heads, self.head_dim)
        key = self.position.rotate(project(self.key, source, shape), positions)       # (B, S, K, D)
        return key, project(self.value, source, shape)

    def compute_output_shape(self, x_shape, *args, **kwargs):
        return (*x_shape[:-1], self.hidden_dim), None

    def get_config(self):
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in PARTS}
        return {**super().get_config(), **parts, "num_heads": self.num_heads, "head_dim": self.head_dim,
                "hidden_dim": self.hidden_dim, "num_key_value_heads": self.num_key_value_heads, "scale": self.scale,
                "dropout": self.dropout.rate, "use_bias": self.use_bias}

    @classmethod
    def from_config(cls, config):
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in PARTS}
        return cls(**{**config, **parts})

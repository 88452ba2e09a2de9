"""A layer of a transformer: attention and a feed-forward network, each with a norm and a residual connection."""
from typing import Any, NamedTuple

import keras
from keras import ops

from kzoo.errors import unknown
from kzoo.layers.cache import DecoderCache, MemoryCache
from kzoo.layers.dropout import Dropout

PLACEMENTS = ("pre", "post")
LAYERS = ("attention", "cross_attention", "feed_forward", "attention_norm", "cross_attention_norm", "feed_forward_norm")


class Context(NamedTuple):
    """What a decoder attends to besides itself.

    Attributes:
        hidden_states: (B, S, E), the encoder's output; None where each layer's cache holds its keys and values.
        positions: `Positions` with the decoder's queries and the encoder's keys and padding.
    """
    hidden_states: Any
    positions: Any


@keras.saving.register_keras_serializable("kzoo")
class TransformerBlock(keras.layers.Layer):
    """Attention, in decoders attention to a context, then feed-forward.

    Placement "pre": x + f(norm(x)); "post": norm(x + f(x)).

    Args:
        attention, feed_forward: layers; attention answers (y, cache).
        attention_norm, feed_forward_norm: their normalisation layers.
        placement: where the norm stands, "pre" or "post".
        dropout: probability of dropping a feature of each branch's output, 0 to 1.
        cross_attention, cross_attention_norm: layers between the two, of a decoder that attends to an encoder; or None.

    Source: post: Vaswani et al. 2017, section 3.1 (arXiv 1706.03762); pre: Xiong et al. 2020 (arXiv 2002.04745).
    """

    def __init__(self, attention, feed_forward, attention_norm, feed_forward_norm, placement="pre", dropout=0.0,
                 cross_attention=None, cross_attention_norm=None, **kwargs):
        super().__init__(**kwargs)
        if placement not in PLACEMENTS:
            raise ValueError(unknown("placement of the norm", placement, PLACEMENTS))
        self.attention = attention
        self.cross_attention = cross_attention
        self.feed_forward = feed_forward
        self.attention_norm = attention_norm
        self.cross_attention_norm = cross_attention_norm
        self.feed_forward_norm = feed_forward_norm
        self.placement = placement
        self.dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, x_shape, *args, **kwargs):
        for name in LAYERS:
            layer = getattr(self, name)
            if layer is not None and not layer.built:  # one that comes out of a saved config is built already
                layer.build(x_shape)

    def call(self, x, positions, cache=None, context=None, among=None, training=None):
        """One layer.

        Args:
            x: (B, T, E).
            positions: `Positions` of the call.
            cache: this layer's, or None; a `DecoderCache` where there is cross-attention. A `MemoryCache` is read, and
                passed on as it is: the model, which knows what is padding, adds x.
            context: `Context` of cross-attention.
            among: (B, S, E), the tokens that attention reads where x are but some of them, without a cache; their
                positions are the keys'.

        Returns: (B, T, E) and the cache to pass on.
        """
        crossing = self.cross_attention is not None
        own, read = cache if crossing and cache is not None else (cache, None)

        def attend(x):
            nonlocal own
            if among is not None:
                return self.attention(x, positions, context=self._as_read(among), training=training)[0]
            if isinstance(own, MemoryCache):
                return self.attention(x, positions, context=self._remember(own, x), training=training)[0]
            y, own = self.attention(x, positions, own, training=training)
            return y

        def cross(x):
            return self.cross_attention(x, context.positions, read, context.hidden_states, training=training)[0]

        x = self._branch(x, attend, self.attention_norm, training)
        if crossing:
            x = self._branch(x, cross, self.cross_attention_norm, training)
        x = self._branch(x, lambda x: self.feed_forward(x, training=training), self.feed_forward_norm, training)
        return x, DecoderCache(own, read) if crossing and cache is not None else own

    def _remember(self, memory, x):
        """(B, M + T, E): what came before a segment and the segment, both as attention reads them."""
        return ops.concatenate([ops.cast(self._as_read(memory.hidden_states), x.dtype), x], axis=1)

    def _as_read(self, hidden_states):
        """States that attention reads besides x, as x comes to it."""
        return self.attention_norm(hidden_states) if self.placement == "pre" else hidden_states

    def _branch(self, x, function, norm, training):
        y = self.dropout(function(norm(x) if self.placement == "pre" else x), training=training)
        return x + y if self.placement == "pre" else norm(x + y)

    def compute_output_shape(self, x_shape, *args, **kwargs):
        return x_shape, None

    def get_config(self):
        layers = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in LAYERS}
        return {**super().get_config(), **layers, "placement": self.placement, "dropout": self.dropout.rate}

    @classmethod
    def from_config(cls, config):
        layers = {name: keras.saving.deserialize_keras_object(config[name]) for name in LAYERS}
        return cls(**{**config, **layers})

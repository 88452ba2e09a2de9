"""A layer of a transformer: attention and a feed-forward network, each with a norm and a residual connection."""
import keras

from kzoo.errors import unknown

PLACEMENTS = ("pre", "post")
LAYERS = ("attention", "feed_forward", "attention_norm", "feed_forward_norm")


@keras.saving.register_keras_serializable("kzoo")
class TransformerBlock(keras.layers.Layer):
    """Attention, then feed-forward.

    Placement "pre": x + f(norm(x)); "post": norm(x + f(x)).

    Args:
        attention, feed_forward: layers; attention answers (y, cache).
        attention_norm, feed_forward_norm: their normalisation layers.
        placement: where the norm stands, "pre" or "post".
        dropout: probability of dropping a feature of either branch's output, 0 to 1.

    Source: post: Vaswani et al. 2017, section 3.1 (arXiv 1706.03762); pre: Xiong et al. 2020 (arXiv 2002.04745).
    """

    def __init__(self, attention, feed_forward, attention_norm, feed_forward_norm, placement="pre", dropout=0.0,
                 **kwargs):
        super().__init__(**kwargs)
        if placement not in PLACEMENTS:
            raise ValueError(unknown("placement of the norm", placement, PLACEMENTS))
        self.attention = attention
        self.feed_forward = feed_forward
        self.attention_norm = attention_norm
        self.feed_forward_norm = feed_forward_norm
        self.placement = placement
        self.dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy, name="dropout")

    def build(self, x_shape, *args, **kwargs):
        for layer in (self.attention_norm, self.attention, self.feed_forward_norm, self.feed_forward):
            if not layer.built:  # one that comes out of a saved config is built already
                layer.build(x_shape)

    def call(self, x, positions, cache=None, training=None):
        """(B, T, E) and this layer's cache -> (B, T, E) and the cache to pass on."""
        pre = self.placement == "pre"
        y, cache = self.attention(self.attention_norm(x) if pre else x, positions, cache, training=training)
        x = x + self.dropout(y, training=training)
        x = x if pre else self.attention_norm(x)
        y = self.feed_forward(self.feed_forward_norm(x) if pre else x)
        x = x + self.dropout(y, training=training)
        return (x if pre else self.feed_forward_norm(x)), cache

    def compute_output_shape(self, x_shape, *args, **kwargs):
        return x_shape, None

    def get_config(self):
        layers = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in LAYERS}
        return {**super().get_config(), **layers, "placement": self.placement, "dropout": self.dropout.rate}

    @classmethod
    def from_config(cls, config):
        layers = {name: keras.saving.deserialize_keras_object(config[name]) for name in LAYERS}
        return cls(**{**config, **layers})

"""Masked language modelling: which token stands behind a mask."""
import keras
from keras import ops

from kzoo.layers import LayerNormalization
from kzoo.layers.feed_forward import get_activation
from kzoo.layers.projection import project
from kzoo.tasks.token_task import TokenTask


@keras.saving.register_keras_serializable("kzoo")
class MaskedLM(TokenTask):
    """Logits of the token at every position: norm(activation(h W)) times the embedding's transpose, plus an offset; or
    from the backbone's own output layer, where it has one.

    Inputs: dict with `token_ids` (B, T) int32, optionally `padding_mask` (B, T) bool and `segment_ids` (B, T) int32.
    Output: logits (B, T, V) float32.

    Source: Devlin et al. 2019, section 3.1 (arXiv 1810.04805); the layer before the embedding is in the authors' code.
    """

    tasks = ("fill-mask",)

    def __init__(self, backbone, **kwargs):
        super().__init__(backbone, **kwargs)
        config = self.config
        self.output_layer = backbone.make_output_layer()
        if self.output_layer is not None:
            return
        self.mask_transform = keras.layers.Dense(
            config.hidden_dim, kernel_initializer=keras.initializers.TruncatedNormal(stddev=config.initializer_range),
            name="mask_transform", dtype=self.dtype_policy)
        self.mask_norm = LayerNormalization(config.layer_norm_epsilon, name="mask_norm", dtype=self.dtype_policy)
        self._activate = get_activation(config.activation)

    def build_head(self):
        if self.output_layer is not None:
            self.output_layer.build((None, self.backbone.output_dim))
            return
        self.mask_transform.build((None, self.config.hidden_dim))
        self.mask_norm.build((None, None, self.config.hidden_dim))
        self.mask_bias = self.add_weight(name="mask_bias", shape=(self.config.vocabulary_size,), initializer="zeros")

    def features(self, hidden_states):
        return self.mask_norm(self._activate(project(self.mask_transform, hidden_states)))  # (B, T, E)

    @property
    def offset(self):
        return ops.cast(self.mask_bias, "float32")

    def head(self, hidden_states, inputs, training=None):
        if self.output_layer is not None:
            return ops.cast(project(self.output_layer, hidden_states), "float32")
        return self.backbone.token_embedding.logits(self.features(hidden_states)) + self.offset

    def compute_output_shape(self, input_shape):
        return (*input_shape["token_ids"], self.config.vocabulary_size)

"""Feature extraction: one vector a text, to compare texts by."""
import keras
from keras import ops

from kzoo.errors import unknown
from kzoo.layers.pooling import first_token, mean_of_tokens
from kzoo.tasks.task import Task

POOLINGS = ("mean", "cls", "pooler")


@keras.saving.register_keras_serializable("kzoo")
class FeatureExtractor(Task):
    """A vector of the backbone's width for each row.

    Inputs: dict with `token_ids` (B, T) int32, optionally `padding_mask` (B, T) bool and `segment_ids` (B, T) int32.
    Output: features (B, E) float32.

    Args:
        pooling: "mean" of the real tokens' states; "cls", the state of the first; or "pooler", what the pretrained
            dense layer makes of that.
        normalize: True scales each vector to length 1, so that a dot product is the cosine.

    Source: Reimers and Gurevych 2019, section 3 (arXiv 1908.10084).
    """

    tasks = ("feature-extraction",)
    output_name = "features"
    setting_names = ("pooling", "normalize")

    def __init__(self, backbone, pooling="mean", normalize=False, **kwargs):
        super().__init__(backbone, **kwargs)
        if pooling not in POOLINGS:
            raise ValueError(unknown("pooling", pooling, POOLINGS))
        if pooling == "pooler" and not self.config.use_pooler:
            raise ValueError("`pooling`='pooler' needs a backbone with `use_pooler`; choose 'mean' or 'cls'.")
        if type(normalize) is not bool:
            raise TypeError(f"`normalize` must be True or False. Received: {normalize!r}.")
        self.pooling = pooling
        self.normalize = normalize
        self.pooler = None
        if self.config.use_pooler:
            # It travels along where the features do without it, frozen, so that a checkpoint stays whole.
            self.pooler = keras.layers.Dense(
                self.config.hidden_dim, activation="tanh", trainable=pooling == "pooler", name="pooler",
                kernel_initializer=keras.initializers.TruncatedNormal(stddev=self.config.initializer_range),
                dtype=self.dtype_policy)

    def build_head(self):
        if self.pooler is not None:
            self.pooler.build((None, self.config.hidden_dim))

    def head(self, hidden_states, inputs, training=None):
        pool = mean_of_tokens if self.pooling == "mean" else first_token
        x = pool(hidden_states, inputs.get("padding_mask"))  # (B, E)
        if self.pooling == "pooler":
            x = self.pooler(x)
        x = ops.cast(x, "float32")
        if self.normalize:  # a row without a real token stays zeros
            x = x / ops.sqrt(ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-24))
        return x

    def compute_output_shape(self, input_shape):
        return (input_shape["token_ids"][0], self.config.hidden_dim)

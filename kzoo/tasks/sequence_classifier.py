"""Text classification: one label a text."""
import keras
from keras import ops

from kzoo.layers.dropout import Dropout
from kzoo.layers.feed_forward import get_activation
from kzoo.tasks.labels import check_labels
from kzoo.tasks.task import Task


@keras.saving.register_keras_serializable("kzoo")
class SequenceClassifier(Task):
    """Logits of the classes, from the state of the first real token: activation(h W) W, with dropout before the last.

    Inputs: dict with `token_ids` (B, T) int32, optionally `padding_mask` (B, T) bool and `segment_ids` (B, T) int32.
    Output: logits (B, N) float32.

    Args:
        labels: names of the N classes, in order.

    Source: Devlin et al. 2019, section 3.2 (arXiv 1810.04805); the first layer is the "pooler" of the authors' code.
    """

    tasks = ("text-classification",)
    setting_names = ("labels",)

    def __init__(self, backbone, labels=None, **kwargs):
        super().__init__(backbone, **kwargs)
        config = self.config
        self.labels = check_labels(labels)
        normal = keras.initializers.TruncatedNormal(stddev=config.initializer_range)
        self.pooler = keras.layers.Dense(config.hidden_dim, kernel_initializer=normal.clone(), name="pooler",
                                         dtype=self.dtype_policy)
        self._activate = get_activation(config.classifier_activation)
        rate = config.dropout if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = Dropout(rate, name="dropout", dtype=self.dtype_policy)
        self.classifier = keras.layers.Dense(len(self.labels), kernel_initializer=normal.clone(), name="classifier",
                                             dtype=self.dtype_policy)

    def build_head(self):
        self.pooler.build((None, self.backbone.output_dim))
        self.classifier.build((None, self.config.hidden_dim))

    def forward(self, inputs, cache=None, training=None):
        states = self.backbone.first_states(self.backbone.complete_inputs(inputs, self.task), training)
        return self.head(states, inputs, training), cache

    def head(self, states, inputs, training=None):
        """float32 (B, N) from the states (B, E) of the first tokens."""
        x = self._activate(self.pooler(states))
        return ops.cast(self.classifier(self.dropout(x, training=training)), "float32")

    def compute_output_shape(self, input_shape):
        return (input_shape["token_ids"][0], len(self.labels))

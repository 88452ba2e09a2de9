"""Token classification: one label a token, such as the tags of named entities."""
import keras
from keras import ops

from kzoo.layers.dropout import Dropout
from kzoo.layers.projection import project
from kzoo.tasks.labels import check_labels
from kzoo.tasks.task import Task


@keras.saving.register_keras_serializable("kzoo")
class TokenClassifier(Task):
    """Logits of the classes at every token: h W, with dropout before.

    Inputs: dict with `token_ids` (B, T) int32, optionally `padding_mask` (B, T) bool and `segment_ids` (B, T) int32.
    Output: logits (B, T, N) float32.

    Args:
        labels: names of the N classes, in order.

    Source: Devlin et al. 2019, section 5.3 (arXiv 1810.04805).
    """

    tasks = ("token-classification",)
    setting_names = ("labels",)

    def __init__(self, backbone, labels=None, **kwargs):
        super().__init__(backbone, **kwargs)
        config = self.config
        self.labels = check_labels(labels)
        rate = config.dropout if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = Dropout(rate, name="dropout", dtype=self.dtype_policy)
        self.tag_classifier = keras.layers.Dense(
            len(self.labels), kernel_initializer=keras.initializers.TruncatedNormal(stddev=config.initializer_range),
            name="tag_classifier", dtype=self.dtype_policy)

    def build_head(self):
        self.tag_classifier.build((None, self.config.hidden_dim))

    def head(self, hidden_states, inputs, training=None):
        return ops.cast(project(self.tag_classifier, self.dropout(hidden_states, training=training)), "float32")

    def compute_output_shape(self, input_shape):
        return (*input_shape["token_ids"], len(self.labels))

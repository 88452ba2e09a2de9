"""Extractive question answering: where in a context the answer begins and ends."""
import keras
from keras import ops

from kzoo.layers.projection import project
from kzoo.tasks.task import Task


@keras.saving.register_keras_serializable("kzoo")
class QuestionAnswerer(Task):
    """Logits of the answer's first and last token: h W, W of two columns.

    Inputs: dict with `token_ids` (B, T) int32 of question and context, optionally `padding_mask` (B, T) bool and
    `segment_ids` (B, T) int32.
    Outputs: dict with `start_logits` and `end_logits`, (B, T) float32.

    Source: Devlin et al. 2019, section 4.2 (arXiv 1810.04805).
    """

    tasks = ("question-answering",)

    def __init__(self, backbone, **kwargs):
        super().__init__(backbone, **kwargs)
        self.span_classifier = keras.layers.Dense(
            2, kernel_initializer=keras.initializers.TruncatedNormal(stddev=self.config.initializer_range),
            name="span_classifier", dtype=self.dtype_policy)

    def build_head(self):
        self.span_classifier.build((None, self.backbone.output_dim))

    def head(self, hidden_states, inputs, training=None):
        logits = ops.cast(project(self.span_classifier, hidden_states), "float32")  # (B, T, 2)
        return {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}

    def compute_output_shape(self, input_shape):
        return {name: tuple(input_shape["token_ids"]) for name in ("start_logits", "end_logits")}

"""What training makes small."""
import keras
from keras import ops


@keras.saving.register_keras_serializable("kzoo")
class TokenCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy of the target tokens, in nats, computed in float32.

    With smoothing e the target is (1 - e) on the right token plus e / V on every token.

    Args:
        label_smoothing: e, 0 to 1.

    Source: smoothing: Szegedy et al. 2016, section 7 (arXiv 1512.00567).
    """

    def __init__(self, label_smoothing=0.0, name="token_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, targets, logits):
        """int (B, T) and (B, T, V) -> (B, T)."""
        logits = ops.cast(logits, "float32")
        right = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
        if not self.label_smoothing:
            return right
        every = ops.logsumexp(logits, axis=-1) - ops.mean(logits, axis=-1)  # the mean over the vocabulary
        return (1 - self.label_smoothing) * right + self.label_smoothing * every

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}

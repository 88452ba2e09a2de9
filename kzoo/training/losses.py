"""What training makes small."""
import keras
from keras import ops

from kzoo.layers.token_losses import TokenLosses, token_losses


@keras.saving.register_keras_serializable("kzoo")
class TokenCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy of the target classes, tokens or labels, in nats, computed in float32.

    With smoothing e the target is (1 - e) on the right class plus e / V on every class.

    Args:
        label_smoothing: e, 0 to 1.

    In the place of logits it takes `TokenLosses`, for models that compute them a few tokens at a time.

    Source: smoothing: Szegedy et al. 2016, section 7 (arXiv 1512.00567).
    """

    takes_token_losses = True

    def __init__(self, label_smoothing=0.0, name="token_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, targets, logits):
        """int (B, ...) and (B, ..., V) -> (B, ...)."""
        losses = logits if isinstance(logits, TokenLosses) else token_losses(targets, logits)
        return losses.right + self.label_smoothing * losses.spread if self.label_smoothing else losses.right

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


class WeightedCrossEntropy(TokenCrossEntropy):
    """The sum of weight times cross-entropy, for batches whose weights are those of a mean already.

    Args:
        label_smoothing: see `TokenCrossEntropy`.
        told: a `WeightedMean` that is told of every batch.
    """

    def __init__(self, label_smoothing, told):
        super().__init__(label_smoothing, name="weighted_cross_entropy")
        self.told = told

    def __call__(self, targets, logits, sample_weight):
        weights = ops.cast(sample_weight, "float32")
        total = ops.sum(self.call(targets, logits) * weights)
        self.told.add(total, ops.sum(weights))
        return total


class WeightedMean(keras.metrics.Metric):
    """The sum of weight times loss over the sum of weights, of all batches together.

    Keras itself tells the mean over batches by their number of rows, which is another thing where batches differ. The
    loss hands over what it has computed: over a large vocabulary it would be dear to do so twice.
    """

    def __init__(self, name="weighted_loss"):
        super().__init__(name=name)
        self._sum = self.add_weight(name="sum", shape=(), initializer="zeros")
        self._weights = self.add_weight(name="weights", shape=(), initializer="zeros")

    def add(self, total, weights):
        """Add a batch: its weighted losses, and its weights, each summed."""
        self._sum.assign_add(total)
        self._weights.assign_add(weights)

    def update_state(self, *batch, **options):
        """Keras calls this for every batch; the loss has done it."""

    def result(self):
        return ops.divide_no_nan(self._sum, self._weights)


def weighted_arguments(label_smoothing):
    """Arguments of `model.compile` for batches whose weights are those of a mean already; told as "weighted_loss"."""
    told = WeightedMean()
    return {"loss": WeightedCrossEntropy(label_smoothing, told), "weighted_metrics": [told]}


def class_sums(logits, targets, weights):
    """What a validation adds up, as one tensor (3,): weighted losses, weights, weights of targets that are right.

    Args:
        logits: (B, ..., V).
        targets: int (B, ...).
        weights: float32 (B, ...).
    """
    losses = TokenCrossEntropy().call(targets, logits)
    right = ops.cast(ops.equal(ops.argmax(logits, axis=-1), ops.cast(targets, "int32")), "float32")
    return ops.stack([ops.sum(losses * weights), ops.sum(weights), ops.sum(right * weights)])

"""What tasks share that predict one token of a vocabulary at every position."""
import keras

from kzoo.layers.chunked_loss import chunked_losses
from kzoo.models.base import check_inputs
from kzoo.tasks.task import Task


class TokenTask(Task):
    """A task whose logits are features times the token embedding's transpose.

    With `loss_chunk_size` in the config, the loss of `fit` and `evaluate` is computed from the features a few tokens at
    a time. Logits are then left out of compiled steps, unless metrics ask for them.

    A task writes `features`, and `offset` if there is one.
    """

    offset = None

    def features(self, hidden_states):
        """What is multiplied by the table: (B, T, E) from the backbone's hidden states (B, T, E)."""
        return hidden_states

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The compiled loss; see `keras.Model.compute_loss`."""
        chunk_size = getattr(self.config, "loss_chunk_size", None)
        if chunk_size is None:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        hidden_states, _ = self.backbone.forward(check_inputs(x), training=training)
        features = self.features(hidden_states)
        table = keras.ops.cast(self.backbone.token_embedding.embeddings, features.dtype)
        losses = chunked_losses(features, table, y, chunk_size, self.offset)
        return sum(self.losses, _taking_losses(self.loss)(y, losses, sample_weight=sample_weight))


class _Right(keras.losses.Loss):
    """Of losses that are computed already: reduces them."""

    def call(self, targets, losses):
        return losses.right


def _taking_losses(loss):
    """A compiled loss as one of `TokenLosses`."""
    if getattr(loss, "takes_token_losses", False):
        return loss
    if isinstance(loss, keras.losses.SparseCategoricalCrossentropy):
        settings = loss.get_config()
        if settings["from_logits"] and settings.get("ignore_class") is None:
            return _Right(reduction=loss.reduction, name=loss.name)
    raise ValueError("`loss_chunk_size` needs a loss that it knows: kzoo.training.losses.TokenCrossEntropy, or "
                     "keras.losses.SparseCategoricalCrossentropy(from_logits=True) without `ignore_class`. "
                     f"Received: {loss!r}.")

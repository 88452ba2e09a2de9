"""What a cross-entropy needs to know of logits, with a gradient that is one pass over them."""
from typing import NamedTuple

from keras import ops


class TokenLosses(NamedTuple):
    """What a loss needs to know of the logits.

    Attributes:
        right: float32 (B, T), the cross-entropy of the target, in nats.
        spread: float32 (B, T), the target's logit minus the mean of all: what label smoothing adds.
    """
    right: object
    spread: object


def token_losses(targets, logits):
    """`TokenLosses` of logits (..., V) and targets, int (...), computed in float32."""
    losses = _losses(ops.cast(targets, "int32"), ops.cast(logits, "float32"))
    return TokenLosses(losses[..., 0], losses[..., 1])


@ops.custom_gradient
def _losses(targets, logits):
    """Both losses side by side (..., 2), and their gradient, as `ops.custom_gradient` wants them.

    Left to the backend, the gradient of picking the target's logit scatters into zeros of the logits' size, and that of
    smoothing is added in one more pass.
    """
    classes = ops.shape(logits)[-1]  # of places in a text, which are classes, too, unknown while tracing
    total = ops.logsumexp(logits, axis=-1)
    target = ops.take_along_axis(logits, ops.expand_dims(targets, -1), axis=-1)[..., 0]
    losses = ops.stack([total - target, target - ops.mean(logits, axis=-1)], axis=-1)

    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream
        right, spread = upstream[..., :1], upstream[..., 1:]                        # (..., 1)
        chosen = ops.equal(ops.arange(classes, dtype="int32"), ops.expand_dims(targets, -1))
        probabilities = ops.exp(logits - ops.expand_dims(total, -1))
        mean = spread / ops.cast(classes, "float32")
        return None, right * probabilities - mean + ops.where(chosen, spread - right, 0.0)

    return losses, gradient

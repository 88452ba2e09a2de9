"""One vector a row, out of one a token."""
from keras import ops


def first_token(hidden_states, padding_mask=None):
    """The state of each row's first real token.

    Args:
        hidden_states: (B, T, E).
        padding_mask: bool (B, T), True = a real token; None: there is no padding.

    Returns: (B, E) in the dtype of `hidden_states`; zeros for a row without a real token.
    """
    if padding_mask is None:
        return hidden_states[:, 0]
    count = ops.cumsum(ops.cast(padding_mask, "int32"), axis=1)                # (B, T)
    return _weighted_sum(hidden_states, ops.cast(padding_mask & (count == 1), hidden_states.dtype))


def mean_of_tokens(hidden_states, padding_mask=None):
    """The mean of each row's real tokens; arguments as for `first_token`.

    Returns: float32 (B, E); zeros for a row without a real token.
    """
    hidden_states = ops.cast(hidden_states, "float32")
    if padding_mask is None:
        return ops.mean(hidden_states, axis=1)
    real = ops.cast(padding_mask, "float32")
    return _weighted_sum(hidden_states, real / ops.maximum(ops.sum(real, axis=1, keepdims=True), 1.0))


def _weighted_sum(hidden_states, weights):
    # Not a matrix product: accelerators round its factors, and a weight of 1 should pick exactly what is there.
    return ops.sum(hidden_states * ops.expand_dims(weights, -1), axis=1)       # (B, E)

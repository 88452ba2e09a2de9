"""Dense layers on sequences, as one matrix product."""
from keras import ops


def project(dense, x, shape=None):
    """Apply a Dense layer to the last axis of (B, T, E).

    Keras multiplies a 3-D tensor by tensordot, which computes its shapes in the graph when B or T is unknown: dozens
    of nodes a layer in an exported file. Rows in, rows out keeps it at two reshapes.

    Args:
        dense: a `keras.layers.Dense`.
        x: (B, T, E).
        shape: the axes to cut the output's last axis into, for example (H, D); None keeps it whole.

    Returns: (B, T, units) or (B, T, *shape).
    """
    rows = dense(ops.reshape(x, (-1, x.shape[-1])))  # (B * T, units)
    return ops.reshape(rows, (-1, ops.shape(x)[1], *(shape or (rows.shape[-1],))))

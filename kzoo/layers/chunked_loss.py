"""Cross-entropy over a vocabulary, a few tokens at a time: logits of all tokens are never held at once."""
from keras import ops

from kzoo.backend import differentiate
from kzoo.layers.token_losses import TokenLosses, token_losses


def chunked_losses(features, table, targets, chunk_size, offset=None):
    """`TokenLosses` of logits = features times the table's transpose, plus an offset.

    Forwards and backwards there is a loop over chunks of tokens; the backward pass computes their logits once more.

    Args:
        features: (B, T, E).
        table: (V, E), in the dtype to multiply in.
        targets: int (B, T).
        chunk_size: tokens at a time.
        offset: float32 (V,), or None.
    """
    width, length = features.shape[-1], ops.shape(features)[1]
    rows, targets = ops.reshape(features, (-1, width)), ops.reshape(ops.cast(targets, "int32"), (-1,))
    count = ops.shape(rows)[0]
    filling = -count % chunk_size
    rows = ops.concatenate([rows, ops.zeros((filling, width), rows.dtype)])
    targets = ops.concatenate([targets, ops.zeros((filling,), "int32")])
    targets = ops.reshape(targets, (-1, chunk_size))                                  # (N, C)
    chunks = ops.reshape(rows, (-1, chunk_size, width))                               # (N, C, E)
    # Reshaped, a variable is a tensor: TensorFlow would miss its gradient otherwise.
    weights = [ops.reshape(each, each.shape) for each in (table, offset) if each is not None]
    losses = ops.custom_gradient(_losses)(targets, chunks, *weights)
    right, spread = (ops.reshape(ops.reshape(losses[..., i], (-1,))[:count], (-1, length)) for i in range(2))
    return TokenLosses(right, spread)


def _losses(targets, chunks, *weights):
    """Forward pass (N, C, 2) and its gradient, as `ops.custom_gradient` wants them."""
    count = ops.shape(chunks)[0]

    def of_chunk(rows, number, table, offset=None):
        logits = ops.cast(ops.matmul(rows, ops.transpose(table)), "float32")          # (C, V)
        logits = logits if offset is None else logits + offset
        return ops.stack(token_losses(ops.take(targets, number, axis=0), logits), axis=1)

    def step(number, losses):
        found = of_chunk(ops.take(chunks, number, axis=0), number, *weights)
        return ops.slice_update(losses, (number, 0, 0), ops.expand_dims(found, 0))

    losses = ops.fori_loop(0, count, step, ops.zeros((count, targets.shape[1], 2), "float32"))

    def gradient(*arguments, upstream=None):
        upstream = arguments[0] if upstream is None else upstream

        def step(number, found):
            of_chunks, *of_weights = found
            _, pull = differentiate(lambda rows, *weights: of_chunk(rows, number, *weights),
                                ops.take(chunks, number, axis=0), *weights)
            of_rows, *added = pull(ops.take(upstream, number, axis=0))
            of_chunks = ops.slice_update(of_chunks, (number, 0, 0), ops.expand_dims(of_rows, 0))
            return of_chunks, *(before + ops.cast(each, "float32")
                                for before, each in zip(of_weights, added, strict=True))

        of_chunks, *of_weights = ops.fori_loop(0, count, step, (
            ops.zeros_like(chunks), *(ops.zeros(weight.shape, "float32") for weight in weights)))
        of_weights = [ops.cast(each, weight.dtype) for each, weight in zip(of_weights, weights, strict=True)]
        return None, of_chunks, *of_weights

    return losses, gradient

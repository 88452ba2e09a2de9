"""The mathematics of attention, without weights."""
import math

from keras import ops

# Finite, so that a row that may see nothing stays finite, and a converter may turn the select into arithmetic.
# Within the range of float16 there is no need for more: softmax runs in float32.
MASKED_SCORE = -1e9


def dot_product_attention(query, key, value, mask=None, bias=None, scale=None, dropout=None, value_bias=None):
    """Mix values by how well each query matches each key.

    Every pattern ends here, so mask and softmax are written once.

    Args:
        query: float tensor (B, T, H, D).
        key, value: float tensors (B, S, K, D); H is a multiple of K, and each key head serves H / K query heads.
        mask: boolean, broadcastable to (B, H, T, S); True = may attend. A query that may attend to nothing receives
            the mean of the values.
        bias: float, broadcastable to (B, H, T, S), added to the scaled scores.
        scale: factor on the scores; None means 1 / sqrt(D).
        dropout: callable on the (B, H, T, S) weights, or None.
        value_bias: callable on the weights that gives (B, T, H, D) to be added to what is mixed, or None.

    Returns: tensor (B, T, H, D) in the dtype of `value`; softmax runs in float32.
    Raises: ValueError if `query` and `key` differ in head_dim, or the number of heads does not divide.
    Source: Vaswani et al. 2017, equation 1 (arXiv 1706.03762); shared key heads: Ainslie et al. 2023
        (arXiv 2305.13245).
    """
    return _attend(query, key, value, mask, bias, scale, dropout, value_bias)[0]


def attention_with_logsumexp(query, key, value, mask=None, bias=None, scale=None, dropout=None):
    """The same, and what it takes to join the results over several sets of keys into one.

    Weighted by softmax over the sets of their logsumexp, the results are those of one softmax over all keys.

    Args: those of `dot_product_attention`.
    Returns: (mixed, logsumexp): (B, T, H, D), and float32 (B, T, H), the logarithm of the sum over keys of exp(score).
    """
    mixed, scores, weights = _attend(query, key, value, mask, bias, scale, dropout)
    # The largest weight is exp(largest score - logsumexp): no second exponential, and nothing overflows.
    total = ops.max(scores, axis=-1) - ops.log(ops.max(weights, axis=-1))  # (B, H, T)
    return mixed, ops.transpose(total, (0, 2, 1))


def _attend(query, key, value, mask, bias, scale, dropout, value_bias=None):
    """(mixed (B, T, H, D), scores, weights), the latter two float32 (B, H, T, S); arguments as above."""
    scores = attention_scores(query, key, mask, bias, scale)
    # Of a single key the weight is 1; Keras warns of such a softmax as of a mistake.
    one_key = isinstance(scores.shape[-1], int) and scores.shape[-1] == 1  # while tracing, a length may be unknown
    weights = ops.ones_like(scores) if one_key else ops.softmax(scores, axis=-1)
    used = ops.cast(weights, value.dtype)  # (B, H, T, S)
    if dropout is not None:
        used = dropout(used)
    mixed = weigh_values(used, value)      # (B, T, H, D)
    return mixed if value_bias is None else mixed + value_bias(used), scores, weights


def attention_scores(query, key, mask=None, bias=None, scale=None):
    """How well each query matches each key, before the softmax: float32 (B, H, T, S); see `dot_product_attention`."""
    heads, key_heads, width = query.shape[2], key.shape[2], query.shape[3]
    if width != key.shape[3]:
        raise ValueError("`query` and `key` must have the same head_dim (last dimension). "
                         f"Received: query.shape={tuple(query.shape)}, key.shape={tuple(key.shape)}.")
    if heads % key_heads:
        raise ValueError("The number of query heads must be a multiple of the number of key heads. "
                         f"Received: query.shape={tuple(query.shape)}, key.shape={tuple(key.shape)}.")
    scale = 1.0 / math.sqrt(width) if scale is None else scale
    length, key_length = ops.shape(query)[1], ops.shape(key)[1]
    # Plain matrix products, not einsum: they convert to the same two nodes in every format.
    query = ops.transpose(query * scale, (0, 2, 1, 3))  # (B, H, T, D)
    key = ops.transpose(key, (0, 2, 3, 1))              # (B, K, D, S)
    if heads != key_heads:  # the heads that share a key head stand below each other, as more queries
        query = ops.reshape(query, (-1, key_heads, heads // key_heads * length, width))
    scores = ops.cast(ops.matmul(query, key), "float32")
    if heads != key_heads:
        scores = ops.reshape(scores, (-1, heads, length, key_length))
    if bias is not None:
        scores = scores + ops.cast(bias, "float32")
    return scores if mask is None else ops.where(mask, scores, MASKED_SCORE)


def weigh_values(weights, value):
    """Sums of the values (B, S, K, D), weighted by (B, H, T, S): (B, T, H, D)."""
    heads, key_heads, width = weights.shape[1], value.shape[2], value.shape[3]
    length, key_length = ops.shape(weights)[2], ops.shape(value)[1]
    value = ops.transpose(value, (0, 2, 1, 3))  # (B, K, S, D)
    if heads != key_heads:
        weights = ops.reshape(weights, (-1, key_heads, heads // key_heads * length, key_length))
    mixed = ops.matmul(weights, value)
    if heads != key_heads:
        mixed = ops.reshape(mixed, (-1, heads, length, width))
    return ops.transpose(mixed, (0, 2, 1, 3))

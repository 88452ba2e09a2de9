"""Attention among keys that share a hash bucket: near neighbours find each other by a sort, in O(T log T).

The steps are pure functions: hash, sort, cut into chunks, attend, join the rounds. The layer is that of
`kzoo.layers.lsh_attention`.

Source: Kitaev et al. 2020, "Reformer: The Efficient Transformer", section 2 (arXiv 2001.04451).
"""
import math

import numpy as np
from keras import ops

from kzoo.layers.attention_function import MASKED_SCORE, attention_scores, attention_with_logsumexp
from kzoo.layers.chunks import look_around, static_length
from kzoo.layers.masks import Everything
from kzoo.layers.patterns import column, row

# Taken from a token's score for itself, far enough to leave it no weight beside any other key, and not as far as what
# a mask hides: a token attends to itself where it may attend to nothing else.
SELF_PENALTY = -1e5


def lsh_buckets(vectors, rotations, num_buckets, padding_mask=None):
    """The bucket of every token, in every round: the nearest of the axes and their opposites after a random rotation.

    Args:
        vectors: (B, T, H, D).
        rotations: (H, D, R, sum(num_buckets) / 2), one rotation a head and round.
        num_buckets: even number of buckets, or a tuple of them: a bucket for each, and together their product.
        padding_mask: bool (B or 1, T), True = a real token; the others have a bucket of their own, the last.

    Returns: int32 (B, H, R, T), without a gradient.
    Source: section 2, "Locality sensitive hashing": h(x) = argmax([xR; -xR]).
    """
    sizes = bucket_sizes(num_buckets)
    heads, width, rounds, columns = rotations.shape
    length = vectors.shape[1]
    vectors = ops.transpose(ops.cast(ops.stop_gradient(vectors), "float32"), (0, 2, 1, 3))       # (B, H, T, D)
    table = ops.reshape(ops.cast(rotations, "float32"), (heads, width, rounds * columns))
    turned = ops.matmul(vectors, table)                                                          # (B, H, T, R * C)
    turned = ops.reshape(turned, (-1, heads, length * rounds, columns))                          # (B, H, T * R, C)
    buckets, start, product = 0, 0, 1
    for size in sizes:
        half = turned[..., start:start + size // 2]
        buckets = buckets + product * _first_of_largest(ops.concatenate([half, -half], axis=-1))
        start, product = start + size // 2, product * size
    buckets = ops.transpose(ops.reshape(buckets, (-1, heads, length, rounds)), (0, 1, 3, 2))     # (B, H, R, T)
    if padding_mask is not None:
        buckets = ops.where(row(padding_mask), buckets, product)
    return buckets


def bucket_sizes(num_buckets):
    """`num_buckets` as a tuple. Raises ValueError unless they are even."""
    sizes = num_buckets if isinstance(num_buckets, tuple) else (num_buckets,)
    if not sizes or any(size < 2 or size % 2 for size in sizes):
        raise ValueError("`num_buckets` must be an even number of at least 2, or a tuple of such. "
                         f"Received: {num_buckets}.")
    return sizes


def _first_of_largest(x):
    """int32 argmax over the last axis. In plain comparisons: ONNX has no conversion for an argmax of floats."""
    count = x.shape[-1]
    largest = x >= ops.max(x, axis=-1, keepdims=True)
    return ops.min(ops.where(largest, np.arange(count, dtype="int32"), count), axis=-1)


def bucket_order(buckets):
    """Tokens by bucket, and within a bucket as they stand in the text.

    Args:
        buckets: int32 (B, H, R, T); the number of buckets times T stays below 2^31.

    Returns: (order, inverse), int32 (B, H, R, T): which token stands at each place, and where each token stands.
    """
    length = buckets.shape[-1]
    order = ops.cast(ops.argsort(buckets * length + np.arange(length, dtype="int32"), axis=-1), "int32")
    return order, ops.cast(ops.argsort(order, axis=-1), "int32")


def sort_rows(x, order, inverse):
    """(B, H, T, D) -> (B, H, R, T, D), the rows in the order of each round."""
    @ops.custom_gradient
    def sort(x):
        # Each round put every row in one place, from which it is fetched: a scatter by index would be slow.
        return take_rows(x, order), lambda upstream: ops.sum(_unsort(upstream, inverse), axis=2)

    return sort(x)


def unsort_rows(x, order, inverse):
    """(B, H, R, T, D) -> the same, the rows of each round as they stand in the text."""
    @ops.custom_gradient
    def unsort(x):
        return _unsort(x, inverse), lambda upstream: _unsort(upstream, order)

    return unsort(x)


def _unsort(x, index):
    """x (B, H, R, T, D), each round by its row of the index (B, H, R, T)."""
    heads, rounds, length, width = x.shape[1:]
    x = ops.reshape(x, (-1, heads * rounds, length, width))
    taken = take_rows(x, ops.reshape(index, (-1, heads * rounds, 1, length)))
    return ops.reshape(taken, (-1, heads, rounds, length, width))


def take_rows(x, index):
    """x (B, H, T, D) by index (B, H, R, T): (B, H, R, T, D), as one gather of whole rows."""
    heads, length, width = x.shape[1:]
    rounds = index.shape[2]
    first = ops.reshape(length * ops.arange(ops.shape(x)[0] * heads, dtype="int32"), (-1, 1))    # (B * H, 1)
    index = ops.reshape(first + ops.reshape(index, (-1, rounds * length)), (-1,))
    rows = ops.take(ops.reshape(x, (-1, width)), index, axis=0)
    return ops.reshape(rows, (-1, heads, rounds, length, width))


def unit_keys(query_key):
    """Keys of length 1: those of a shared projection differ from the queries in that alone. float32, and back."""
    x = ops.cast(query_key, "float32")
    x = x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-6) / math.sqrt(x.shape[-1])
    return ops.cast(x, query_key.dtype)


def shared_attention(query_key, value, mask, padding_mask=None, dropout=None):
    """Full attention with the rules of LSH attention: unit keys, and a token attends to itself last.

    Args:
        query_key, value: (B, T, H, D).
        mask: a rule of `kzoo.layers.masks`.
        padding_mask: bool (B or 1, T), or None.
        dropout: callable on the weights, or None.

    Returns: (B, T, H, D).
    """
    index = np.arange(query_key.shape[1], dtype="int32").reshape(1, -1)
    return _attend(query_key, unit_keys(query_key), value, index, index, mask, padding_mask, None, dropout)[0]


def lsh_attention(query_key, value, buckets, chunk_length, chunks_before=1, chunks_after=0, mask=Everything(),  # noqa: B008
                  padding_mask=None, count_once=False, dropout=None):
    """Attention of every token over what is near it in the order of the buckets, in several rounds.

    Tokens sorted by bucket are cut into chunks; a chunk attends to itself and its neighbours, in a circle over all
    rounds. The rounds' results are weighted by softmax over their logsumexp.

    Args:
        query_key, value: (B, T, H, D), T a multiple of `chunk_length`.
        buckets: int32 (B, H, R, T), from `lsh_buckets`.
        chunk_length: W.
        chunks_before, chunks_after: neighbours that a chunk attends to.
        mask: a rule of `kzoo.layers.masks`, asked with the numbers of the tokens in the row.
        padding_mask: bool (B or 1, T), True = a real token; None: there is no padding.
        count_once: a key that a query meets n times, over all rounds, counts 1/n each time (the paper's N_ij). Without
            it, as in the authors' code, more rounds do not converge to full attention.
        dropout: callable on the weights, or None.

    Returns: (B, T, H, D).
    Source: section 2, equations 2 to 6. As in the authors' code, neighbours need not share the bucket.
    """
    length = static_length(query_key, chunk_length, "chunk_length")
    heads, width = query_key.shape[2:]
    rounds = buckets.shape[2]
    count = rounds * length // chunk_length

    def chunked(x):
        return ops.reshape(x, (-1, count, chunk_length, *x.shape[4:]))                           # (B * H, N, W, ...)

    def around(x):
        return look_around(chunked(x), chunks_before, chunks_after)                              # (B * H, N, S, ...)

    def folded(x):
        return ops.reshape(x, (-1, *x.shape[2:]))                                                # (B * H * N, ...)

    order, inverse = bucket_order(buckets)
    both = ops.transpose(ops.concatenate([query_key, value], axis=-1), (0, 2, 1, 3))             # (B, H, T, 2 D)
    both = sort_rows(both, order, inverse)                                                       # (B, H, R, T, 2 D)
    query = both[..., :width]
    key, value = unit_keys(query), both[..., width:]
    numbers, seen = chunked(order), around(order)                                                # (B * H, N, W), S
    real = None
    if padding_mask is not None:
        rows = ops.zeros_like(order[:, :, 0]) + ops.cast(ops.expand_dims(padding_mask, 1), "int32")  # (B, H, T)
        real = folded(around(take_rows(ops.expand_dims(rows, 3), order)[..., 0])) > 0            # (B * H * N, S)
    bias = None
    if count_once:
        places = take_rows(_chunk_numbers(inverse, chunk_length), order)                         # (B, H, R, T, R)
        times = _times_met(folded(chunked(places)), folded(around(places)), chunks_before, chunks_after, count)
        bias = -ops.log(ops.cast(ops.maximum(times, 1), "float32"))                              # (B * H * N, W, S)
    one_head = [ops.expand_dims(folded(x), 2) for x in (chunked(query), around(key), around(value))]
    mixed, total = _attend(*one_head, folded(numbers), folded(seen), mask, real, bias, dropout)
    mixed = ops.reshape(mixed, (-1, heads, rounds, length, width))
    if rounds == 1:
        mixed = unsort_rows(mixed, order, inverse)
    else:
        total = ops.reshape(total, (-1, heads, rounds, length, 1))
        both = unsort_rows(ops.concatenate([ops.cast(mixed, "float32"), total], axis=-1), order, inverse)
        weights = ops.softmax(both[..., width:], axis=2)                                         # (B, H, R, T, 1)
        mixed = ops.sum(both[..., :width] * weights, axis=2, keepdims=True)
    return ops.cast(ops.transpose(mixed[:, :, 0], (0, 2, 1, 3)), value.dtype)                    # (B, T, H, D)


def lsh_scores(query_key, buckets, chunk_length, chunks_before=1, chunks_after=0, mask=Everything(),  # noqa: B008
               padding_mask=None, count_once=False):
    """Scores of all pairs whose softmax, times the values, is what `lsh_attention` gives, for looking inside.

    All rounds together are one softmax over what they compare, so a pair that meets n times counts n times, which is a
    score higher by log n, or once with `count_once`. A pair that never meets has a very low score.

    Args: those of `lsh_attention`; `buckets` None means `shared_attention`.
    Returns: float32 (B, H, T, T).
    """
    length, heads = query_key.shape[1:3]
    index = np.arange(length, dtype="int32").reshape(1, -1)
    visible, penalty = _rules(index, index, mask, padding_mask)
    scores = attention_scores(query_key, unit_keys(query_key), visible, penalty, scale=1.0)
    if buckets is None:
        return scores
    rounds = buckets.shape[2]
    count = rounds * length // chunk_length
    _, inverse = bucket_order(buckets)
    places = ops.reshape(_chunk_numbers(inverse, chunk_length), (-1, length, rounds))            # (B * H, T, R)
    times = _times_met(places, places, chunks_before, chunks_after, count)
    times = ops.reshape(times, (-1, heads, length, length))
    more = 0.0 if count_once else ops.log(ops.cast(ops.maximum(times, 1), "float32"))
    return ops.where(times > 0, scores + more, MASKED_SCORE)


def _attend(query, key, value, numbers, seen, mask, real, bias, dropout):
    """(mixed, logsumexp) with the self rule.

    Args:
        query: (B, T, H, D); key, value: (B, S, H, D), keys of unit length.
        numbers, seen: int32 (B or 1, T) and (B or 1, S), which tokens these are.
        real: bool (B or 1, S), which keys are real tokens, or None.
        bias: (B, T, S), added to the scores, or None.
    """
    visible, penalty = _rules(numbers, seen, mask, real)
    if bias is not None:
        penalty = penalty + ops.expand_dims(bias, 1)
    return attention_with_logsumexp(query, key, value, mask=visible, bias=penalty, scale=1.0, dropout=dropout)


def _rules(numbers, seen, mask, real):
    """(which pairs are visible or None, what is added to scores), with the self rule applied last: what is hidden, but
    for the token itself, stays hidden. Arguments as above."""
    numbers, seen = column(numbers), row(seen)
    itself = ops.equal(numbers, seen)                                                            # (B or 1, 1, T, S)
    visible = mask(numbers, seen)
    if real is not None:
        visible = row(real) if visible is None else visible & row(real)
    return None if visible is None else visible | itself, ops.where(itself, SELF_PENALTY, 0.0)


def _chunk_numbers(inverse, chunk_length):
    """Which chunk each token is in, in each round, numbered through the rounds: int32 (B, H, R, T) -> (B, H, T, R)."""
    rounds, length = inverse.shape[2:]
    numbers = inverse // chunk_length + length // chunk_length * np.arange(rounds, dtype="int32").reshape(-1, 1)
    return ops.transpose(numbers, (0, 1, 3, 2))


def _times_met(places, seen, before, after, count):
    """How often each query meets each key, over all rounds and neighbours.

    Args:
        places: int32 (B, T, R), the chunk that each query is in, in each round; chunks are numbered through the rounds.
        seen: int32 (B, S, R), the same of keys.
        before, after: neighbours of a chunk.
        count: of all chunks.

    Returns: int32 (B, T, S).
    """
    result = 0
    for one in range(places.shape[2]):
        for other in range(seen.shape[2]):
            for offset in range(-before, after + 1):
                looked_at = ops.expand_dims((places[..., one] + offset) % count, 2)              # (B, T, 1)
                result = result + ops.cast(ops.equal(looked_at, ops.expand_dims(seen[..., other], 1)), "int32")
    return result

"""From logits to the next token: penalties, temperature, top-k, top-p, and the draw. Numpy only.

The order is that of Hugging Face: repetition penalty, repeated n-grams, bans and minimum length, forced end,
temperature, top-k, top-p.
The vocabulary is never sorted: a partition finds the k-th largest, and only tokens that can be in the nucleus are
ordered.
"""
import math

import numpy as np

from kzoo.errors import CheckFailed

_BLOCK = 256  # tokens summed at once when drawing
_HEAD = 1024  # the nucleus is nearly always among so many of the likeliest tokens


def log_softmax(logits):
    """Log probabilities along the last axis, float32; -inf stays -inf.

    Raises: CheckFailed if a row holds NaN or +inf, or nothing but -inf: the model that made it is broken.
    """
    logits = np.asarray(logits, "float32")
    largest = logits.max(axis=-1, keepdims=True)  # NaN if any is
    check_finite(largest)
    shifted = logits - largest
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits):
    """Probabilities along the last axis, float32."""
    return np.exp(log_softmax(logits))


def check_finite(best):
    """`best` holds the largest logit of each row; NaN comes out as the largest too."""
    if not np.isfinite(best).all():
        raise CheckFailed("The logits are not finite (NaN or infinity), so no token can be chosen. "
                          "The weights are damaged, or a precision too low for this model was used.")


def restrict(scores, histories, length, limit, options, eos):
    """What the options leave of the scores of one step.

    Args:
        scores: float32 (B, V), logits or log probabilities.
        histories: function of no arguments to what `adjust` takes; called only where it matters.
        length: number of new tokens so far.
        limit: number of new tokens at which every row ends.
        options: `GenerationOptions`.
        eos: ids that end a row.

    Returns: float32 (B, V); `scores` itself where nothing changes.
    """
    banned, forced = _banned(length, options, eos), _forced(length, limit, options)
    looks_back = _looks_back(options)
    if not banned and forced is None and not looks_back:
        return scores
    return adjust(scores, histories() if looks_back else (), options.repetition_penalty, banned, forced,
                  options.no_repeat_ngram_size)


def _looks_back(options):
    return options.repetition_penalty != 1.0 or options.no_repeat_ngram_size > 0


def _banned(length, options, eos):
    return (*options.suppress_tokens, *(eos if length < options.min_new_tokens else ()))


def _forced(length, limit, options):
    return options.forced_eos_token_id if length + 1 == limit else None


def adjust(scores, histories, repetition_penalty=1.0, banned=(), forced=None, no_repeat_ngram_size=0):
    """A copy of `scores` with the repetition penalty applied, and repetitions and `banned` ids impossible.

    Args:
        scores: float32 (B, V), logits or log probabilities.
        histories: B arrays of the token ids that a row holds so far, prompt included and padding excluded.
        repetition_penalty, no_repeat_ngram_size: see `GenerationOptions`.
        banned: ids, for example the end of sequence before the minimum length.
        forced: the id that is certain, or None.

    Source: Keskar et al. 2019, section 4.1 (arXiv 1909.05858); negative scores are multiplied, as Hugging Face does.
    """
    scores = scores.copy()
    if repetition_penalty != 1.0:
        for row, history in zip(scores, histories, strict=True):
            seen = row[history]
            row[history] = np.where(seen < 0, seen * repetition_penalty, seen / repetition_penalty)
    if no_repeat_ngram_size:
        for row, history in zip(scores, histories, strict=True):
            row[_repeating(history, no_repeat_ngram_size)] = -np.inf
    scores[:, list(banned)] = -np.inf
    if forced is not None:
        scores[:] = -np.inf
        scores[:, forced] = 0.0
    return scores


def _repeating(history, size):
    """The ids with which the end of `history` would be an n-gram of `size` tokens that it holds already."""
    if len(history) < size:
        return np.zeros(0, "int64")
    ngrams = np.lib.stride_tricks.sliding_window_view(history, size)  # (N - size + 1, size)
    begun = (ngrams[:, :-1] == history[len(history) - size + 1:]).all(axis=1)
    return ngrams[begun, -1]


def refuse_dead_end(scores, options):
    """Refuse `scores` (..., V) of which the ban on repetitions leaves nothing."""
    if options.no_repeat_ngram_size and np.isneginf(scores.max(axis=-1)).any():
        raise ValueError(f"`no_repeat_ngram_size`={options.no_repeat_ngram_size} leaves no token to go on with, as all "
                         "would repeat something. Make it larger, or `max_new_tokens` smaller.")


def top_indices(values, count):
    """Indices of the `count` largest of a vector, largest first, equal values in order of index."""
    candidates = np.flatnonzero(values >= _kth_largest(values, count))
    return candidates[np.argsort(-values[candidates], kind="stable")[:count]]


def candidates(logits, temperature=1.0, top_k=0, top_p=1.0):
    """The tokens that may be drawn, and their probabilities.

    Args:
        logits: float32 (V,) of one row.
        temperature, top_k, top_p: see `GenerationOptions`. Tokens as likely as the k-th likeliest stay.

    Returns: ids in ascending order or None for all, and float32 probabilities that sum to 1.
    Source: Holtzman et al. 2020, equation 2 (arXiv 1904.09751) for top-p.
    """
    ids = None
    check_finite(logits.max())
    if 0 < top_k < len(logits):
        ids = np.flatnonzero(logits >= _kth_largest(logits, top_k))
        logits = logits[ids]
    if temperature != 1.0:
        with np.errstate(over="ignore"):  # to -inf, which is right: a tiny temperature leaves only the largest
            logits = (logits - logits.max()) / max(temperature, float(np.finfo("float32").tiny))
    probabilities = softmax(logits)
    if top_p < 1.0:
        kept = _nucleus(probabilities, top_p)
        ids = kept if ids is None else ids[kept]
        probabilities = probabilities[kept]
        probabilities = probabilities / probabilities.sum()
    return ids, probabilities


def draw(ids, probabilities, generator):
    """One id, by inverting the cumulative distribution with a single random number.

    Ids are in ascending order, not in order of probability, so that two runtimes whose logits differ in the last digit
    draw the same token from the same stream.
    """
    starts = np.arange(0, len(probabilities), _BLOCK)
    sums = np.add.reduceat(probabilities, starts)
    edges = np.cumsum(sums, dtype="float64")
    target = generator.random() * edges[-1]
    block = min(int(np.searchsorted(edges, target, side="right")), len(starts) - 1)
    inside = np.cumsum(probabilities[starts[block]:starts[block] + _BLOCK], dtype="float64")
    target -= edges[block] - sums[block]
    # Rounding may carry the target past the block's end: then it is the last token that has any probability.
    offset = min(int(np.searchsorted(inside, target, side="right")), int(np.searchsorted(inside, inside[-1])))
    index = int(starts[block]) + offset
    return index if ids is None else int(ids[index])


def row_generator(seed, row):
    """The stream of random numbers of one row; it does not depend on the other rows."""
    return np.random.default_rng(None if seed is None else np.random.SeedSequence(seed, spawn_key=(row,)))


def next_tokens(logits, histories, length, limit, options, eos, generators):
    """The next token of every row, of those that the options leave.

    Args:
        logits: float32 (B, V).
        histories, length, limit, options, eos: see `restrict`.
        generators: a stream of random numbers a row; not used where the likeliest token is taken.

    Returns: int32 (B,).
    """
    if not options.do_sample and not _looks_back(options) and _forced(length, limit, options) is None:
        # What is banned matters only where it is the likeliest: a copy of all logits takes longer than to look.
        tokens = logits.argmax(axis=1).astype("int32")
        if not set(_banned(length, options, eos)).intersection(tokens.tolist()):
            return _checked(tokens, logits)
    left = restrict(logits, histories, length, limit, options, eos)
    refuse_dead_end(left, options)
    return choose(left, options, generators)


def choose(logits, options, generators):
    """The next token of every row: (B, V) float32 logits -> (B,) int32."""
    if not options.do_sample:
        return _checked(logits.argmax(axis=1).astype("int32"), logits)
    tokens = [draw(*candidates(row, options.temperature, options.top_k, options.top_p), generator)
              for row, generator in zip(logits, generators, strict=True)]
    return np.array(tokens, "int32")


def _checked(tokens, logits):
    """The likeliest tokens (B,), unless their logits are not finite."""
    if not all(math.isfinite(logits.item(row, token)) for row, token in enumerate(tokens.tolist())):
        check_finite(logits.max(axis=1))
    return tokens


def _kth_largest(values, k):
    place = max(len(values) - k, 0)
    return np.partition(values, place)[place]


def _nucleus(probabilities, top_p):
    """Ascending ids of the smallest set whose mass is at least `top_p`; among equals, the lower ids."""
    place = max(len(probabilities) - _HEAD, 0)
    likely = np.partition(probabilities, place)[place:]
    if likely.sum() < top_p:  # a flat distribution
        # All tokens below this share less than 1 - top_p, so none of them can be in the set: they need no sorting.
        likely = probabilities[probabilities >= (1.0 - top_p) / len(probabilities)]
    likely = np.sort(likely)[::-1]
    count = min(int(np.searchsorted(np.cumsum(likely, dtype="float64"), top_p)) + 1, len(likely))
    smallest = likely[count - 1]
    above, equal = np.flatnonzero(probabilities > smallest), np.flatnonzero(probabilities == smallest)
    return np.sort(np.concatenate([above, equal[:count - len(above)]]))

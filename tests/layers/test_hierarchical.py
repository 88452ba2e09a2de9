"""Hierarchical attention against its formula: own tokens and means of other segments in one softmax."""
import numpy as np
import pytest

from kzoo.layers import Attention, Hierarchical, ShawRelative
from kzoo.layers.positions import alibi_slopes
from tests.layers.pattern_reference import (
    CASES,
    LEFT,
    SLOTS,
    B,
    D,
    H,
    K,
    T,
    assert_round_trip,
    assert_scores_explain,
    attend,
    key,
    query,
    value,
)

SIZE = 5


def written_out(case, shift=1):
    """`shift`: how many segments later a summary may be seen by those who do not see ahead."""
    causal, biased, padding = case == "causal", case == "causal", CASES[case][2]
    result = np.zeros((B, T, H, D))
    for b, h in np.ndindex(B, H):
        slots = SLOTS if padding is None else np.flatnonzero(padding[b])
        segments = [slots[start:start + SIZE] for start in range(0, len(slots), SIZE)]
        for i, slot in enumerate(slots):
            keys, values, distances = [], [], []
            for number, segment in enumerate(segments):
                own, shared = number == i // SIZE, h // (H // K)
                if own:
                    for j in range(SIZE * number, SIZE * number + len(segment)):
                        if j <= i or not causal:
                            keys.append(key[b, slots[j], shared])
                            values.append(value[b, slots[j], shared])
                            distances.append(abs(i - j))
                if (number <= i // SIZE - shift) if causal else not own:
                    keys.append(key[b, segment, shared].mean(axis=0))
                    values.append(value[b, segment, shared].mean(axis=0))
                    distances.append(abs(i - (SIZE * number + SIZE // 2)))
            scores = np.array(keys) @ query[b, slot, h] / np.sqrt(D) - biased * alibi_slopes(H)[h] * np.array(distances)
            weights = np.exp(scores)
            result[b, slot, h] = weights / weights.sum() @ np.array(values)
    return result


@pytest.mark.parametrize("case", sorted({"causal", "both-ways"} & set(CASES)))
def test_agrees_with_the_formula_written_out(case):
    result, padding = attend(Hierarchical(SIZE), case)
    np.testing.assert_allclose(result[padding], written_out(case)[padding], atol=1e-5)
    assert np.abs(result - written_out("causal", shift=0))[LEFT & padding].max() > 0.01


@pytest.mark.parametrize("case", CASES)
def test_the_dense_scores_explain_the_answer(case):
    assert_scores_explain(Hierarchical(SIZE), case)


def test_nothing_is_heard_of_the_future():
    """Not even through the mean of the own segment: bit for bit."""
    before, _ = attend(Hierarchical(SIZE), "causal")
    changed = [x.copy() for x in (key, value)]
    for x in changed:
        x[:, 12] += 1.0
    after, _ = attend(Hierarchical(SIZE), "causal", (query, *changed))
    np.testing.assert_array_equal(after[1, :12], before[1, :12])
    assert (np.abs(after[1, 12:] - before[1, 12:]).max(axis=(1, 2)) > 1e-6).all()


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="cannot go on from a cache. Received: 1 queries and 23 keys"):
        Hierarchical(SIZE).attend(query[:, :1], key, value, None, None, None)
    with pytest.raises(ValueError, match="cannot work with ShawRelative: a summary of a segment has no single"):
        Attention(H, D, pattern=Hierarchical(SIZE), position=ShawRelative(D))
    with pytest.raises(ValueError, match="`segment_size` must be at least 1. Received: 0"):
        Hierarchical(0)


def test_round_trip():
    assert_round_trip(Hierarchical(SIZE))

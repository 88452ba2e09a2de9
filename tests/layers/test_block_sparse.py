"""Block-sparse attention equals dense attention under its rule; its draws are constants."""
import numpy as np
import pytest

from kzoo.layers import BlockSparse
from tests.layers.pattern_reference import (
    CASES,
    assert_cached,
    assert_dense,
    assert_round_trip,
    assert_scores_explain,
    dear_on_jax,
    difference,
)

PATTERN = BlockSparse(3, num_near=1, num_global=1, num_random=2, seed=4)  # 8 blocks of 23 tokens


def rule(q, k, h, pattern=PATTERN):
    q, k = q // pattern.block_size, k // pattern.block_size
    near, everywhere = abs(q - k) <= pattern.num_near, min(q, k) < pattern.num_global
    return near or everywhere or k in pattern.random_blocks(8)[q]


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_dense_attention_under_its_rule(case):
    assert_dense(PATTERN, rule, case)
    assert_scores_explain(PATTERN, case)
    if case != "window":  # where the mask hides nearly all that is drawn
        assert difference(PATTERN, lambda q, k, h: rule(q, k, h, PATTERN.for_layer(1)), case) > 0.01


@dear_on_jax
def test_none_near_none_global_none_drawn():
    for pattern in (BlockSparse(5, 0, 2, 1), BlockSparse(5, 1, 0, 0)):
        assert_dense(pattern, lambda q, k, h, pattern=pattern: rule(q, k, h, pattern), "both-ways")


def test_draws_are_constants_that_do_not_depend_on_the_length():
    drawn = PATTERN.random_blocks(40)
    np.testing.assert_array_equal(drawn[:8], PATTERN.random_blocks(8))
    for block, row in enumerate(drawn):
        chosen = row[row >= 0]
        assert len(set(chosen)) == len(chosen) == min(2, max(block - 2, 0))
        assert all(PATTERN.num_global <= each < block - PATTERN.num_near for each in chosen)
    assert (drawn != PATTERN.for_layer(1).random_blocks(40)).any()
    assert len(set(drawn[20:].ravel())) > 10  # all over the text


def test_a_cache_is_gone_on_from():
    assert_cached(PATTERN)


@pytest.mark.parametrize("name, value, words", [
    ("block_size", 0, "`block_size` must be at least 1. Received: 0"),
    ("num_random", -1, "`num_random` must be at least 0. Received: -1"),
])
def test_values_that_do_not_fit_are_refused(name, value, words):
    with pytest.raises(ValueError, match=words):
        BlockSparse(**{"block_size": 3, name: value})


def test_round_trip():
    assert_round_trip(PATTERN)

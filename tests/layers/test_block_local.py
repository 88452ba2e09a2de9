"""Block-local attention equals dense attention under its rule, on every side of padding."""
import pytest

from kzoo.layers import BlockLocal
from tests.layers.pattern_reference import (
    CASES,
    assert_cached,
    assert_dense,
    assert_round_trip,
    assert_scores_explain,
    dear_on_jax,
    difference,
)


def rule(q, k, h, size=5, back=1, ahead=0):
    return -ahead <= q // size - k // size <= back


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_dense_attention_under_its_rule(case):
    assert_dense(BlockLocal(5), rule, case)
    assert difference(BlockLocal(5), lambda q, k, h: rule(q, k, h, size=6), case) > 0.01
    assert_scores_explain(BlockLocal(5), case)


@dear_on_jax
def test_blocks_ahead_and_none_back():
    assert_dense(BlockLocal(4, 0, 1), lambda q, k, h: rule(q, k, h, 4, 0, 1), "both-ways")
    assert difference(BlockLocal(4, 0, 1), lambda q, k, h: rule(q, k, h, 4, 0, 0), "both-ways") > 0.01


def test_a_cache_is_gone_on_from():
    assert_cached(BlockLocal(5))


@pytest.mark.parametrize("values, words", [((0,), "`block_size` must be at least 1. Received: 0"),
                                           ((3, -1), "`look_back` must be at least 0. Received: -1"),
                                           ((3, 1, -2), "`look_ahead` must be at least 0. Received: -2")])
def test_values_that_do_not_fit_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        BlockLocal(*values)


def test_round_trip():
    assert_round_trip(BlockLocal(5, 2, 1))

"""Strided attention equals dense attention under its rule: half of the heads look near, half far."""
import numpy as np
import pytest
from keras import ops

from kzoo.layers import Attention, Causal, NoPosition, Pattern, Strided, locate
from tests.layers.pattern_reference import (
    CASES,
    D,
    H,
    assert_cached,
    assert_dense,
    assert_round_trip,
    assert_scores_explain,
    dear_on_jax,
    difference,
)


def rule(q, k, h, stride=5):
    return (q - k) % stride == 0 if h % 2 else abs(q - k) < stride


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_dense_attention_under_its_rule(case):
    assert_dense(Strided(5), rule, case)
    assert difference(Strided(5), lambda q, k, h: rule(q, k, h + 1), case) > 0.01
    assert_scores_explain(Strided(5), case)


def test_two_layers_join_any_two_tokens():
    """The product of both kinds of heads' rules leaves no pair out."""
    joined = [[any((rule(q, m, 0) and rule(m, k, 1)) or (rule(q, m, 1) and rule(m, k, 0)) for m in range(q + 1))
               for k in range(q + 1)] for q in range(23)]
    assert all(map(all, joined)) and not all(rule(22, k, 0) or rule(22, k, 1) for k in range(23))


def test_a_cache_is_gone_on_from():
    assert_cached(Strided(5))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="`stride` must be at least 1. Received: 0"):
        Strided(0)
    with pytest.raises(ValueError, match="at least 2 heads: one kind looks near, the other far. Received: 1"):
        Attention(1, D, mask=Causal(), pattern=Strided(5))


@dear_on_jax
def test_the_last_of_an_odd_number_of_heads_looks_near():
    """Computed in blocks as by the rule alone."""
    inputs = [np.random.default_rng(0).normal(size=(1, 9, 3, D)).astype("float32") for _ in range(3)]
    places = locate(np.zeros((1, 9), "int32"))
    blocked, ruled = (ops.convert_to_numpy(attend(Strided(4), *inputs, places, Causal(), NoPosition()))
                      for attend in (Strided.attend, Pattern.attend))
    np.testing.assert_allclose(blocked, ruled, atol=1e-5)


@dear_on_jax
def test_an_odd_number_of_heads_keeps_its_order():
    near, far = Strided(3).visible(ops.arange(9)[None, None, :, None], ops.arange(9)[None, None, None], H - 1)[0, 1:, 8]
    assert [list(map(bool, near)), list(map(bool, far))] == [[k % 3 == 2 for k in range(9)], [k > 5 for k in range(9)]]


def test_round_trip():
    assert_round_trip(Strided(7))

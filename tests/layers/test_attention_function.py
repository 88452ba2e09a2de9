"""dot_product_attention against the formula, and the errors that tutorials make in it."""
import math

import numpy as np
import pytest
from keras import ops

from kzoo.layers import dot_product_attention
from kzoo.layers.attention_function import attention_with_logsumexp

B, T, S, H, D = 2, 5, 7, 3, 4  # all different: a swapped axis cannot pass
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(size=shape).astype("float32")


def attend(*arguments, **options):
    return ops.convert_to_numpy(ops.cast(dot_product_attention(*arguments, **options), "float32"))


def written_out(query, key, value, mask=None, bias=None, scale=None):
    """The formula with a loop over every query; key heads are shared by neighbouring query heads."""
    share = query.shape[2] // key.shape[2]
    shape = (query.shape[0], query.shape[2], query.shape[1], key.shape[1])
    mask = np.broadcast_to(True if mask is None else mask, shape)
    bias = np.broadcast_to(0.0 if bias is None else bias, shape)
    result = np.zeros(query.shape)
    for b, h, t in np.ndindex(query.shape[0], query.shape[2], query.shape[1]):
        scores = key[b, :, h // share] @ query[b, t, h] * (scale or 1 / math.sqrt(query.shape[3])) + bias[b, h, t]
        weights = np.exp(scores) * mask[b, h, t]
        weights = weights / weights.sum() if weights.any() else np.full(key.shape[1], 1 / key.shape[1])
        result[b, t, h] = weights @ value[b, :, h // share]
    return result


def test_agrees_with_the_formula_written_out():
    query, key, value = normal(B, T, H, D), normal(B, S, H, D), normal(B, S, H, D)
    expected = written_out(query, key, value)
    np.testing.assert_allclose(attend(query, key, value), expected, atol=1e-5)
    # What tutorials get wrong is far away: no scale, and the keys summed in place of the values.
    assert np.abs(attend(query, key, value, scale=1.0) - expected).max() > 0.1
    assert np.abs(attend(query, key, key) - expected).max() > 0.1


@pytest.mark.parametrize("key_heads", [1, 2, 6])
def test_key_heads_are_shared_by_neighbours(key_heads):
    heads = 6
    query, key, value = normal(B, T, heads, D), normal(B, S, key_heads, D), normal(B, S, key_heads, D)
    mask, bias = rng.random((B, 1, T, S)) < 0.7, normal(1, heads, T, S)
    expected = written_out(query, key, value, mask, bias)
    np.testing.assert_allclose(attend(query, key, value, mask=mask, bias=bias), expected, atol=1e-5)
    if key_heads == 2:
        swapped = attend(query, key[:, :, ::-1], value[:, :, ::-1], mask=mask, bias=bias)
        assert np.abs(swapped - expected).max() > 0.1


def test_mask_bias_and_scale_agree_with_the_formula():
    query, key, value = normal(B, T, H, D), normal(B, S, H, D), normal(B, S, H, D)
    mask, bias = rng.random((B, H, T, S)) < 0.6, normal(B, H, T, S)
    mask[..., 0] = True
    expected = written_out(query, key, value, mask, bias, scale=0.37)
    np.testing.assert_allclose(attend(query, key, value, mask=mask, bias=bias, scale=0.37), expected, atol=1e-5)
    assert np.abs(attend(query, key, value, mask=~mask, bias=bias, scale=0.37) - expected).max() > 0.1


def test_a_masked_key_has_no_influence_at_all():
    query, key, value = normal(B, T, H, D), normal(B, S, H, D), normal(B, S, H, D)
    mask = np.ones((B, 1, 1, S), bool)
    mask[..., 2] = False
    before = attend(query, key, value, mask=mask)
    key[:, 2], value[:, 2] = 50.0, -1e6
    np.testing.assert_array_equal(attend(query, key, value, mask=mask), before)
    assert not np.array_equal(attend(query, key, value), before)


def test_a_masked_key_stays_hidden_behind_very_low_scores():
    """All that may be seen scores -3e4, far below what a timid fill value would."""
    query, key, value = normal(B, T, H, D), normal(B, S, H, D), normal(B, S, H, D)
    mask = np.ones((B, 1, 1, S), bool)
    mask[..., 2] = False
    bias = np.full((1, 1, 1, S), -3e4, "float32")
    expected = attend(query, key, value, mask=mask)
    np.testing.assert_allclose(attend(query, key, value, mask=mask, bias=bias), expected, atol=0.01)


def test_of_a_single_key_the_weight_is_one():
    query, key, value = normal(B, T, H, D), normal(B, 1, H, D), normal(B, 1, H, D)
    for mask in (None, np.zeros((B, 1, T, 1), bool)):
        np.testing.assert_allclose(attend(query, key, value, mask=mask), np.repeat(value, T, axis=1), atol=1e-6)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("float16", 2e-3), ("bfloat16", 2e-2)])
def test_a_query_that_may_see_nothing_gets_the_mean_of_the_values(dtype, tolerance):
    query, key, value = (ops.cast(normal(B, length, H, D), dtype) for length in (T, S, S))
    mask = np.ones((B, 1, T, S), bool)
    mask[1, :, 3] = False
    mixed = dot_product_attention(query, key, value, mask=mask)
    assert ops.shape(mixed) == (B, T, H, D) and mixed.dtype == value.dtype
    mixed, value = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in (mixed, value))
    assert np.isfinite(mixed).all()
    np.testing.assert_allclose(mixed[1, 3], value[1].mean(axis=0), atol=tolerance)
    assert np.abs(mixed[1, 2] - value[1].mean(axis=0)).max() > 10 * tolerance


def test_softmax_runs_in_float32():
    """A bias of -2049 cannot be told from -2048 in float16; the softmax can."""
    query = ops.cast(np.zeros((1, 1, 1, D)), "float16")
    key, value = (ops.cast(x, "float16") for x in (np.zeros((1, 2, 1, D)), np.array([1.0, 3.0]).reshape(1, 2, 1, 1)))
    bias = np.array([-2048.0, -2049.0], "float32").reshape(1, 1, 1, 2)
    weight = 1 / (1 + math.exp(-1))
    np.testing.assert_allclose(attend(query, key, value, bias=bias).item(), weight + 3 * (1 - weight), atol=2e-3)


def test_dropout_sees_the_weights():
    seen = []

    def keep_half(weights):
        seen.append(ops.convert_to_numpy(weights))
        return weights * 0.5

    query, key, value = normal(B, T, H, D), normal(B, S, H, D), normal(B, S, H, D)
    halved = attend(query, key, value, dropout=keep_half)
    assert seen[0].shape == (B, H, T, S)
    np.testing.assert_allclose(seen[0].sum(axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(halved, written_out(query, key, value) / 2, atol=1e-5)


def test_results_over_sets_of_keys_are_joined_by_their_logsumexp():
    query, key, value = normal(B, T, H, D), 5 * normal(B, S, H, D), normal(B, S, H, D)
    bias, mask = normal(1, H, T, S), rng.random((B, 1, T, S)) < 0.7
    mask[..., 0] = mask[..., 3] = True
    parts, totals = [], []
    for keys in (slice(0, 3), slice(3, S)):
        mixed, total = attention_with_logsumexp(query, key[:, keys], value[:, keys], mask=mask[..., keys],
                                                bias=bias[..., keys])
        parts.append(ops.convert_to_numpy(mixed))
        totals.append(ops.convert_to_numpy(total))
        scores = np.einsum("bthd,bshd->bhts", query, key[:, keys]) / math.sqrt(D) + bias[..., keys]
        expected = np.logaddexp.reduce(np.where(mask[..., keys], scores, -np.inf), axis=-1).transpose(0, 2, 1)
        np.testing.assert_allclose(totals[-1], expected, rtol=1e-5, atol=1e-4)
    weights = np.exp(np.stack(totals) - np.logaddexp(*totals))[..., None]  # (2, B, T, H, 1)
    expected = written_out(query, key, value, mask, bias)
    np.testing.assert_allclose((weights * np.stack(parts)).sum(axis=0), expected, atol=1e-4)
    assert np.abs(np.mean(parts, axis=0) - expected).max() > 0.1


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"same head_dim.*\(2, 5, 3, 4\).*\(2, 7, 3, 5\)"):
        dot_product_attention(normal(B, T, H, D), normal(B, S, H, D + 1), normal(B, S, H, D))
    with pytest.raises(ValueError, match="multiple of the number of key heads"):
        dot_product_attention(normal(B, T, H, D), normal(B, S, 2, D), normal(B, S, 2, D))

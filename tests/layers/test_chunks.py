"""Blocks in a circle equal full attention under the same mask, and see what they should."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import ALiBi, Causal, CircularBlocks, Everything, NoPosition, Positions, dot_product_attention
from kzoo.layers.chunks import look_around

pytestmark = pytest.mark.skipif(keras.backend.backend() == "jax",
                                reason="on JAX this compiles for long, and what it tests is the same there")
B, T, H, D, W = 2, 15, 3, 4, 5
AT = np.arange(T, dtype="int32")[None]
PADDING = np.arange(T) < np.array([[T], [8]])
rng = np.random.default_rng(0)
query, key, value = rng.normal(size=(3, B, T, H, D)).astype("float32")


def attend(pattern, mask, position=NoPosition(), padding_mask=None):  # noqa: B008
    positions = Positions(AT, AT, AT, padding_mask)
    return ops.convert_to_numpy(pattern.attend(query, key, value, positions, mask, position))


def dense(before, after, causal, padding_mask=None, bias=None):
    blocks = np.arange(T) // W
    distance = (blocks[None] - blocks[:, None]) % (T // W)
    mask = (distance <= after) | (distance >= T // W - before)
    if causal:
        mask = mask & (np.arange(T)[None] <= np.arange(T)[:, None])
    mask = mask[None, None] if padding_mask is None else mask & padding_mask[:, None, None]
    return ops.convert_to_numpy(dot_product_attention(query, key, value, mask=mask, bias=bias))


@pytest.mark.parametrize("before, after, causal", [(1, 0, True), (0, 1, False), (0, 0, False)])
def test_equals_full_attention_under_the_same_mask(before, after, causal):
    mask = Causal() if causal else Everything()
    expected = dense(before, after, causal)
    np.testing.assert_allclose(attend(CircularBlocks(W, before, after), mask), expected, atol=1e-6)
    assert np.abs(attend(CircularBlocks(W, before + 1, after), mask) - expected).max() > 0.01
    # The rule that it states, asked by dense attention.
    rule = CircularBlocks(W, before, after).visible(AT[:, None, :, None], AT[:, None, None], H)
    allowed = mask(AT[:, None, :, None], AT[:, None, None])
    ruled = dot_product_attention(query, key, value, mask=rule if allowed is None else rule & allowed)
    np.testing.assert_allclose(ops.convert_to_numpy(ruled), expected, atol=1e-6)


def test_asks_padding_and_position():
    bias = ALiBi().score_bias(query, AT[:, None, :, None], AT[:, None, None])
    expected = dense(1, 0, True, PADDING, bias)
    result = attend(CircularBlocks(W), Causal(), ALiBi(), PADDING)
    np.testing.assert_allclose(result[PADDING], expected[PADDING], atol=1e-6)
    assert np.abs(attend(CircularBlocks(W), Causal(), NoPosition(), PADDING)[PADDING] - expected[PADDING]).max() > 0.01
    assert np.abs(attend(CircularBlocks(W), Everything())[:, 0] - attend(CircularBlocks(W, 0), Everything())[:, 0]
                  ).max() > 0.01  # the first block sees the last


def test_one_block_is_full_attention():
    expected = ops.convert_to_numpy(dot_product_attention(query, key, value))
    np.testing.assert_array_equal(attend(CircularBlocks(T), Everything()), expected)


def test_neighbours_stand_in_a_circle():
    chunks = np.arange(8).reshape(1, 4, 2)
    assert ops.convert_to_numpy(look_around(chunks, 1, 1)).tolist() == [
        [[6, 7, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5], [2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 0, 1]]]
    assert ops.convert_to_numpy(look_around(chunks, 2, 0))[0, 0].tolist() == [4, 5, 6, 7, 0, 1]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="multiple of `block_size` .4., or at most that. Received: 15"):
        attend(CircularBlocks(4), Everything())
    with pytest.raises(ValueError, match="`block_size` must be at least 1.*Received: 0, 1 and 0"):
        CircularBlocks(0)
    with pytest.raises(ValueError, match="of the same tokens. Received: 15 queries and 10 keys"):
        CircularBlocks(W).attend(query, key[:, :10], value[:, :10], Positions(AT, AT, AT, None), Everything(),
                                 NoPosition())


def test_round_trip():
    pattern = CircularBlocks(7, 2, 1)
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(pattern)) == pattern

"""Full attention asks the mask, the padding and the position."""
import numpy as np
from keras import ops

from kzoo.layers import ALiBi, Causal, Everything, Full, NoPosition, Positions, dot_product_attention

B, T, S, H, D = 2, 3, 5, 7, 4
rng = np.random.default_rng(7)
query = rng.normal(size=(B, T, H, D)).astype("float32")
key, value = rng.normal(size=(2, B, S, H, D)).astype("float32")
AT = np.arange(S - T, S, dtype="int32")[None]
KEYS = np.arange(S, dtype="int32")[None]
PADDING = np.array([[0, 1, 1, 1, 1], [0, 0, 1, 1, 1]], bool)


def attend(mask, position, padding_mask=None):
    positions = Positions(AT, AT, KEYS, padding_mask)
    return ops.convert_to_numpy(Full().attend(query, key, value, positions, mask, position))


def plain(mask=None, bias=None):
    return ops.convert_to_numpy(dot_product_attention(query, key, value, mask=mask, bias=bias))


CAUSAL = KEYS[0] <= AT[0][:, None]  # (T, S)


def test_everything():
    np.testing.assert_array_equal(attend(Everything(), NoPosition()), plain())


def test_mask_and_padding_both_count():
    np.testing.assert_allclose(attend(Causal(), NoPosition()), plain(CAUSAL), atol=1e-6)
    np.testing.assert_allclose(attend(Everything(), NoPosition(), PADDING), plain(PADDING[:, None, None]), atol=1e-6)
    both = attend(Causal(), NoPosition(), PADDING)
    np.testing.assert_allclose(both, plain(CAUSAL & PADDING[:, None, None]), atol=1e-6)
    assert np.abs(both - plain(CAUSAL)).max() > 0.1 and np.abs(both - plain(PADDING[:, None, None])).max() > 0.1


def test_the_position_adds_its_bias():
    bias = ops.convert_to_numpy(ALiBi().score_bias(query, AT[:, None, :, None], KEYS[:, None, None, :]))
    result = attend(Causal(), ALiBi())
    np.testing.assert_allclose(result, plain(CAUSAL, bias), atol=1e-6)
    assert np.abs(result - plain(CAUSAL)).max() > 0.01

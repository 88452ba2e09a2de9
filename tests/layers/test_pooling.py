"""One vector a row: of the first real token, or the mean of all."""
import numpy as np
import pytest
from keras import ops

from kzoo.layers.pooling import first_token, mean_of_tokens

B, T, E = 3, 7, 5
rng = np.random.default_rng(0)
STATES = rng.normal(size=(B, T, E)).astype("float32")
LEFT, RIGHT = np.ones((B, T), bool), np.ones((B, T), bool)
for row, padding in enumerate((0, 2, 4)):
    LEFT[row, :padding] = False
    RIGHT[row, T - padding:] = False


@pytest.mark.parametrize("mask", [None, LEFT, RIGHT], ids=["none", "left", "right"])
def test_pooling_agrees_with_the_formula(mask):
    real = np.ones((B, T), bool) if mask is None else mask
    rows = [states[keep] for states, keep in zip(STATES, real, strict=True)]
    np.testing.assert_array_equal(first_token(STATES, mask), [row[0] for row in rows])  # exactly what is there
    np.testing.assert_allclose(mean_of_tokens(STATES, mask), [row.mean(axis=0) for row in rows], atol=1e-6)


def test_padding_matters():
    assert np.abs(first_token(STATES, LEFT) - first_token(STATES)).max() > 0.1
    assert np.abs(mean_of_tokens(STATES, RIGHT) - mean_of_tokens(STATES)).max() > 0.1


def test_a_row_without_real_tokens_is_zeros():
    mask = LEFT.copy()
    mask[1] = False
    for pool in (first_token, mean_of_tokens):
        result = ops.convert_to_numpy(pool(STATES, mask))
        assert not result[1].any() and result[0].any() and np.isfinite(result).all()


def test_the_mean_is_taken_in_float32():
    """In float16, 4,096 ones would add up to 2,048."""
    ones = ops.ones((1, 4096, 1), "float16")
    assert float(mean_of_tokens(ones, np.ones((1, 4096), bool))[0, 0]) == 1.0
    assert ops.dtype(mean_of_tokens(ones)) == "float32" and ops.dtype(first_token(ones)) == "float16"

"""Dropout by hashed places: the same on every backend, for the same seed; otherwise as if drawn at random."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.backend import differentiate
from kzoo.layers import Dropout
from kzoo.layers.dropout import drop, place_hash

B, T, E = 7, 13, 31
x = np.ones((B, T, E), "float32")


def array(x):
    return ops.convert_to_numpy(x)


def masks(count, rate=0.3, seed=5):
    layer = Dropout(rate, seed=seed)
    return np.stack([array(layer(x, training=True)) == 0 for _ in range(count)])


def test_the_hash_agrees_with_the_formula_written_out():
    def mix(bits, key=0):
        bits = (bits ^ bits >> 16) * 0x7FEB352D % 2 ** 32
        bits = ((bits ^ bits >> 15) + key) * 0x846CA68B % 2 ** 32
        return bits ^ bits >> 16

    first = mix(mix((11 + 0x9E3779B9) % 2 ** 32) ^ 3)
    second = mix((first + 0x9E3779B9) % 2 ** 32)
    expected = [mix(place ^ first, second) for place in range(2 * 5)]
    np.testing.assert_array_equal(array(place_hash((2, 5), np.array([3, 11]))).ravel(), expected)
    assert array(place_hash((2, 5), np.array([3, 12]))).ravel().tolist() != expected


def test_what_stays_is_scaled_so_that_the_mean_does():
    y = array(Dropout(0.3, seed=1)(x, training=True))
    assert set(np.unique(y)) == {0, np.float32(1 / 0.7)}
    assert array(drop(np.ones(10 ** 6, "float32"), 0.3, np.array([1, 2]))).mean() == pytest.approx(1, abs=3e-3)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_masks_look_drawn_at_random(rate):
    """Shares over places, over calls and of pairs of neighbours spread as those of independent draws do."""
    drawn = masks(400, rate)
    deviation = np.sqrt(rate * (1 - rate))
    assert abs(drawn.mean() - rate) < 4 * deviation / np.sqrt(drawn.size)
    assert drawn.mean(axis=0).std() == pytest.approx(deviation / np.sqrt(len(drawn)), rel=0.1)
    assert drawn.mean(axis=(1, 2, 3)).std() == pytest.approx(deviation / np.sqrt(x.size), rel=0.15)
    centred = (drawn - rate) / deviation
    for axis in range(4):  # calls one after another, rows, tokens, features
        here = np.moveaxis(centred, axis, 0)
        pairs = here[1:] * here[:-1]
        assert abs(pairs.mean()) < 4 / np.sqrt(pairs.size)


def test_layers_with_other_seeds_drop_other_places():
    pairs = masks(300, seed=5), masks(300, seed=6)
    centred = [(each - 0.3) / np.sqrt(0.21) for each in pairs]
    assert abs((centred[0] * centred[1]).mean()) < 4 / np.sqrt(centred[0].size)
    assert (centred[0] * centred[0]).mean() > 0.9  # the measure sees two that are alike
    np.testing.assert_array_equal(masks(2), masks(2))


def test_the_gradient_is_that_of_the_values_that_stay():
    seed, upstream = np.array([4, 2]), np.arange(x.size, dtype="float32").reshape(x.shape)
    y, pull = differentiate(lambda x: drop(x, 0.25, seed), ops.convert_to_tensor(2 * x))
    found, = pull(ops.convert_to_tensor(upstream))
    np.testing.assert_allclose(array(found), np.where(array(y) == 0, 0, upstream / 0.75), rtol=1e-6)


def test_a_mask_may_be_shared_along_an_axis():
    y = array(Dropout(0.5, noise_shape=(None, 1, None), seed=2)(x, training=True))
    assert (y == y[:, :1]).all() and 0.3 < (y == 0).mean() < 0.7
    assert not (array(Dropout(0.5, seed=2)(x, training=True)) == y).all()


def test_nothing_is_dropped_outside_training_or_at_rate_0_and_all_at_1():
    for layer, training in ((Dropout(0.4), False), (Dropout(0.0), True)):
        np.testing.assert_array_equal(array(layer(x, training=training)), x)
    assert not array(Dropout(1.0)(x, training=True)).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_stays(dtype):
    y = Dropout(0.5, seed=2, dtype=dtype)(x, training=True)
    assert keras.backend.standardize_dtype(y.dtype) == dtype
    assert set(np.unique(array(ops.cast(y, "float32")))) == {0, 2}


def test_round_trip():
    layer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(Dropout(0.4, seed=3)))
    assert type(layer) is Dropout and layer.rate == 0.4 and layer.seed == 3

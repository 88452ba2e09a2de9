"""Norms against their formulas, with an epsilon that shows."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import LayerNormalization, RMSNormalization

B, T, E = 2, 3, 5
EPSILON = 0.137  # large and odd: any other, Keras' 1e-3 among them, is far off
rng = np.random.default_rng(1)
x = rng.normal(2.0, 3.0, size=(B, T, E)).astype("float32")
scale, bias = rng.normal(size=(2, E)).astype("float32")


def built(layer, *weights):
    layer.build(x.shape)
    layer.set_weights(weights)
    return layer


def layer_formula(epsilon):
    mean = x.astype("float64").mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * scale


def test_layer_normalization_agrees_with_the_formula():
    layer = built(LayerNormalization(EPSILON), scale, bias)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), layer_formula(EPSILON) + bias, atol=1e-5)
    assert np.abs(ops.convert_to_numpy(layer(x)) - layer_formula(1e-3) - bias).max() > 1e-3


def test_layer_normalization_without_bias():
    layer = built(LayerNormalization(EPSILON, use_bias=False), scale)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), layer_formula(EPSILON), atol=1e-5)


def test_rms_normalization_agrees_with_the_formula():
    layer = built(RMSNormalization(EPSILON), scale)
    expected = x / np.sqrt((x.astype("float64") ** 2).mean(axis=-1, keepdims=True) + EPSILON) * scale
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-5)
    assert np.abs(expected - layer_formula(EPSILON)).max() > 0.1  # it does not centre


@pytest.mark.parametrize("layer", [LayerNormalization, RMSNormalization])
def test_float16_is_computed_in_float32(layer):
    """Squares of 400 do not fit into float16."""
    half = built(layer(EPSILON, dtype="mixed_float16"), *[scale, bias][:1 if layer is RMSNormalization else 2])
    large = (x * 400).astype("float16")
    result = half(large)
    assert keras.backend.standardize_dtype(result.dtype) == "float16"
    full = built(layer(EPSILON), *half.get_weights())
    np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(result, "float32")),
                               ops.convert_to_numpy(full(large.astype("float32"))), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("layer", [LayerNormalization(EPSILON), LayerNormalization(EPSILON, use_bias=False),
                                   RMSNormalization(EPSILON)], ids=["layer", "layer without bias", "rms"])
def test_round_trip(layer):
    layer.build(x.shape)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.epsilon == EPSILON
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(layer(x)))

"""The feed-forward network and its activations against their formulas."""
import math

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import FeedForward
from kzoo.layers.feed_forward import get_activation

B, T, E, F, OUT = 2, 3, 5, 11, 7
rng = np.random.default_rng(2)
x = rng.normal(size=(B, T, E)).astype("float32")

FORMULAS = {
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}
LINE = np.linspace(-6, 6, 1201).astype("float32")


def redrawn(layer):
    layer.build((B, T, E))
    layer.set_weights([rng.normal(size=weight.shape).astype("float32") for weight in layer.weights])
    return layer, {"/".join(weight.path.split("/")[-2:]): ops.convert_to_numpy(weight) for weight in layer.weights}


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_agree_with_their_formulas(name):
    np.testing.assert_allclose(ops.convert_to_numpy(get_activation(name)(LINE)), FORMULAS[name](LINE.astype("float64")),
                               atol=2e-6)


def test_the_two_gelus_are_told_apart():
    """They differ by 4.7e-4 at most, near 2.7: enough to fail a comparison of models, too little to be seen."""
    difference = np.abs(ops.convert_to_numpy(get_activation("gelu")(LINE) - get_activation("gelu_tanh")(LINE)))
    assert 4.5e-4 < difference.max() < 4.9e-4
    assert 2.5 < abs(LINE[difference.argmax()]) < 2.9


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
def test_agrees_with_the_formula(gated, use_bias):
    layer, weights = redrawn(FeedForward(F, OUT, "gelu", gated=gated, use_bias=use_bias))

    def dense(name, x):
        return x @ weights[f"{name}/kernel"] + (weights[f"{name}/bias"] if use_bias else 0)

    activate = FORMULAS["gelu"]
    inside = activate(dense("gate", x)) * dense("up", x) if gated else activate(dense("up", x))
    result = ops.convert_to_numpy(layer(x))
    assert result.shape == (B, T, OUT)
    np.testing.assert_allclose(result, dense("down", inside), rtol=1e-4, atol=1e-4)
    # Nothing after the sum, and the activation is on the right branch.
    assert (result < 0).any()
    if gated:
        swapped = dense("down", activate(dense("up", x)) * dense("gate", x))
        assert np.abs(result - swapped).max() > 0.1


@pytest.mark.parametrize("chunk_size", [2, 7])
def test_in_chunks_the_result_is_the_same(chunk_size):
    plain, _ = redrawn(FeedForward(F, OUT, "silu", gated=True))
    chunked = FeedForward(F, OUT, "silu", gated=True, chunk_size=chunk_size)
    chunked.build((B, T, E))
    chunked.set_weights(plain.get_weights())
    seen = []
    chunked.up.call = lambda rows, call=chunked.up.call: seen.append(rows.shape[0] // B) or call(rows)
    np.testing.assert_allclose(ops.convert_to_numpy(chunked(x)), ops.convert_to_numpy(plain(x)), rtol=1e-5, atol=1e-5)
    assert sum(seen) == T and max(seen) == min(chunk_size, T)
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(chunked)).chunk_size == chunk_size


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`chunk_size` must be at least 1, or None. Received: 0"):
        FeedForward(F, E, chunk_size=0)


def test_an_unknown_activation_is_refused_with_the_closest():
    with pytest.raises(ValueError, match="Unknown activation 'gelu_tan'. Did you mean 'gelu_tanh'?"):
        FeedForward(F, E, "gelu_tan")


def test_round_trip():
    layer, _ = redrawn(FeedForward(F, OUT, "silu", gated=True, use_bias=False,
                                   kernel_initializer=keras.initializers.RandomNormal(stddev=0.3), name="network"))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.kernel_initializer.stddev == 0.3 and again.name == "network"
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(layer(x)))


def test_output_shape():
    assert FeedForward(F, OUT).compute_output_shape((None, T, E)) == (None, T, OUT)

"""Looking inside: what is shown is what the layers did, whatever their pattern; rollout against its formula."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import (
    Attention,
    BlockSparse,
    Causal,
    Full,
    Hierarchical,
    ShawRelative,
    attention_maps,
    attention_rollout,
    locate,
)
from tests.layers.pattern_reference import dear_on_jax

B, T, H, D, E = 2, 7, 2, 3, 6
rng = np.random.default_rng(0)
x = rng.normal(size=(B, T, E)).astype("float32")


class TwoLayers(keras.layers.Layer):
    """Attention by one pattern, then by another."""

    def __init__(self, *patterns):
        super().__init__()
        self.layers = [Attention(H, D, E, num_key_value_heads=1, mask=Causal(), pattern=pattern, name=f"attention_{i}")
                       for i, pattern in enumerate(patterns)]

    def build(self, input_shape):
        for layer in self.layers:
            layer.build(input_shape)

    def call(self, x):
        for layer in self.layers:
            x = layer(x, locate(np.zeros((B, T), "int32")))[0]
        return x


@dear_on_jax
def test_every_layer_is_shown_as_it_was_called():
    patterns = Full(), Hierarchical(3), BlockSparse(2)
    model = TwoLayers(*patterns)
    expected = ops.convert_to_numpy(model(x))
    maps = attention_maps(model, x)
    assert [each.path.split("/")[-1] for each in maps] == ["attention_0", "attention_1", "attention_2"]
    assert tuple(layer.pattern for layer in model.layers) == patterns  # all is as it was
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), expected)
    for each in maps:
        probabilities = ops.convert_to_numpy(each.probabilities)
        assert probabilities.shape == (B, H, T, T) == tuple(each.scores.shape)
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
        assert not np.triu(probabilities, 1).any()  # of the future nothing is seen
        values = ops.convert_to_numpy(each.values)[:, :, 0]  # one head of values serves both
        mixed = np.einsum("bhts,bsd->bthd", probabilities, values)
        np.testing.assert_allclose(mixed, ops.convert_to_numpy(each.mixed), atol=1e-5)
        other = np.einsum("bhts,bsd->bthd", probabilities, np.roll(values, 1, axis=1))
        assert np.abs(other - mixed).max() > 0.01


def test_patterns_come_back_after_an_error():
    model = TwoLayers(Full())
    model.build((B, T, E))
    with pytest.raises(ValueError):
        attention_maps(model, np.zeros((B, T, E + 1)))
    assert model.layers[0].pattern == Full()


@dear_on_jax
def test_what_a_position_adds_to_values_is_not_in_the_weights():
    layer = Attention(H, D, E, position=ShawRelative(D, 2))
    layer.build((B, T, E))
    places = locate(np.zeros((B, T), "int32"))
    one = attention_maps(layer, x, positions=places)[0]
    at = ops.arange(T)
    added = layer.position.value_bias(one.probabilities, at[None, None, :, None], at[None, None, None])
    mixed = ops.einsum("bhts,bshd->bthd", one.probabilities, one.values) + added
    np.testing.assert_allclose(ops.convert_to_numpy(mixed), ops.convert_to_numpy(one.mixed), atol=1e-5)


def test_rollout_agrees_with_the_formula_written_out():
    layers = rng.random((3, H, T, T)).astype("float32")
    layers /= layers.sum(axis=-1, keepdims=True)
    expected = np.eye(T)
    for layer in layers:
        mean = sum(layer) / H
        expected = (0.5 * mean + 0.5 * np.eye(T)) @ expected
    found = ops.convert_to_numpy(attention_rollout(list(layers)))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.abs(ops.convert_to_numpy(attention_rollout(list(layers[::-1]))) - expected).max() > 0.01

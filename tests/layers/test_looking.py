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
    LSHAttention,
    ShawRelative,
    SlidingWindow,
    attention_maps,
    attention_rollout,
    locate,
)
from kzoo.layers.longformer_attention import GlobalPositions, LongformerAttention, find_global_tokens
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


@dear_on_jax
@pytest.mark.parametrize("options", [
    {"mask": Causal()}, {}, {"count_once": True}, {"mask": Causal(), "count_once": True, "chunks_after": 0},
    {"chunk_length": 12}], ids=["causal", "all", "once", "causal, once", "within a chunk"])
def test_rounds_of_hashing_are_shown_as_one_softmax(options):
    """A pair that meets in several rounds has its whole weight."""
    layer = LSHAttention(**{**dict(num_heads=H, head_dim=D, hidden_dim=E, num_buckets=4, num_hashes=3, chunk_length=4,
                                   chunks_after=int("mask" not in options), seed=3), **options})
    x = np.random.default_rng(1).normal(size=(B, 12, E)).astype("float32") * 3
    layer.build(x.shape)
    real = ops.convert_to_tensor(np.arange(12) < np.array([[12], [9]]))
    places = locate(np.zeros((B, 12), "int32"), real)
    (one,) = attention_maps(layer, x, positions=places)
    assert one.path == layer.name
    probabilities, values = ops.convert_to_numpy(one.probabilities), ops.convert_to_numpy(one.values)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    assert "mask" not in options or not np.triu(probabilities, 1).any()
    assert not probabilities[1, :, :9, 9:].any()
    mixed = np.einsum("bhts,bshd->bthd", probabilities, values)
    np.testing.assert_allclose(mixed, ops.convert_to_numpy(one.mixed), atol=1e-5)
    output = mixed.reshape(B, 12, -1) @ ops.convert_to_numpy(layer.output_dense.kernel)
    np.testing.assert_allclose(output, ops.convert_to_numpy(layer(x, places)[0]), atol=1e-5)
    assert np.abs(np.einsum("bhts,bshd->bthd", probabilities, values[:, ::-1]) - mixed).max() > 0.01


@dear_on_jax
@pytest.mark.parametrize("globals_", [True, False])
def test_windows_and_global_tokens_are_shown_together(globals_):
    layer = LongformerAttention(H, D, E, pattern=SlidingWindow(2))
    layer.build(x.shape)
    layer.set_weights([rng.normal(0, 0.4, weight.shape) for weight in layer.weights])
    real = np.arange(T) < np.array([[T], [5]])
    chosen = np.isin(np.arange(T), (0, 3)) & np.array([[True], [False]]) | (np.arange(T) == 1)
    places = locate(np.zeros((B, T), "int32"), ops.convert_to_tensor(real))
    if globals_:
        places = GlobalPositions(*places, find_global_tokens(ops.convert_to_tensor(chosen), 3, "float32"))
    (one,) = attention_maps(layer, x, positions=places)
    probabilities = ops.convert_to_numpy(one.probabilities)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    distance = abs(np.arange(T)[:, None] - np.arange(T))
    seen = (distance < 2) | (chosen[:, :, None] | chosen[:, None]) & globals_
    seen = seen & real[:, None]
    rows = real[:, None, :, None] & np.ones((B, H, T, T), bool)
    np.testing.assert_array_equal((probabilities > 0)[rows], np.repeat(seen[:, None], H, axis=1)[rows])
    mixed = np.einsum("bhts,bshd->bthd", probabilities, ops.convert_to_numpy(one.values))
    if globals_:
        by_all = np.einsum("bhts,bshd->bthd", probabilities, ops.convert_to_numpy(one.global_values))
        assert np.abs(by_all - mixed)[chosen].min() > 0
        mixed = np.where(ops.convert_to_numpy(one.global_mask)[..., None, None], by_all, mixed)
    np.testing.assert_allclose(mixed[real], ops.convert_to_numpy(one.mixed)[real], atol=1e-5)
    kernel, bias = (ops.convert_to_numpy(each) for each in (layer.output_dense.kernel, layer.output_dense.bias))
    output = ops.convert_to_numpy(layer(x, places)[0])
    np.testing.assert_allclose((mixed.reshape(B, T, -1) @ kernel + bias)[real], output[real], atol=1e-5)


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

"""A chunk of tokens at a time, the loss and its gradients are those of all logits at once."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers.chunked_loss import chunked_losses
from tests.layers.pattern_reference import dear_on_jax

B, T, E, V = 3, 5, 4, 11
rng = np.random.default_rng(0)
targets = rng.integers(0, V, (B, T)).astype("int32")
weights = rng.normal(size=(2, B, T)).astype("float32")


class Readout(keras.layers.Layer):
    """Features, a table and an offset as variables, so that all have gradients."""

    def __init__(self):
        super().__init__()
        draw = np.random.default_rng(1)
        self.parts = [self.add_weight(shape=shape, initializer=lambda shape, dtype=None: draw.normal(size=shape))
                      for shape in ((B, T, E), (V, E), (V,))]


def written_out(layer):
    features, table, offset = layer.parts
    logits = ops.matmul(features, ops.transpose(table)) + offset
    target = ops.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return ops.logsumexp(logits, axis=-1) - target, target - ops.mean(logits, axis=-1)


def chunked(layer, size, targets=targets):
    features, table, offset = layer.parts
    return chunked_losses(ops.convert_to_tensor(features), table, targets, size, offset)


@dear_on_jax
def test_losses_are_those_of_all_logits():
    layer = Readout()
    for size in (4, 20):
        for found, expected in zip(chunked(layer, size), written_out(layer), strict=True):
            np.testing.assert_allclose(ops.convert_to_numpy(found), ops.convert_to_numpy(expected), atol=1e-5)
    moved = chunked(layer, 4, np.roll(targets, 1, axis=1))
    assert np.abs(ops.convert_to_numpy(moved.right) - ops.convert_to_numpy(written_out(layer)[0])).max() > 0.1


def test_gradients_are_those_of_all_logits(gradients):
    layer = Readout()

    def loss(losses):
        return sum(ops.sum(each * weight) for each, weight in zip(losses(), weights, strict=True))

    found = gradients(layer, lambda: loss(lambda: chunked(layer, 4)))
    expected = gradients(layer, lambda: loss(lambda: written_out(layer)))
    assert len(found) == 3
    for one, other in zip(found, expected, strict=True):
        assert np.abs(other).max() > 0.1
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_number_of_tokens_that_is_unknown_while_a_graph_is_traced():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow's graphs have open lengths")
    import tensorflow as tf

    layer = Readout()
    traced = tf.function(lambda features, targets: chunked_losses(features, layer.parts[1], targets, 4).right,
                         input_signature=[tf.TensorSpec((None, None, E)), tf.TensorSpec((None, None), tf.int32)])
    features = ops.convert_to_numpy(layer.parts[0])
    for rows in (2, 3):
        expected = chunked_losses(ops.convert_to_tensor(features[:rows]), layer.parts[1], targets[:rows], 20).right
        np.testing.assert_allclose(traced(features[:rows], targets[:rows]), expected, atol=1e-5)

"""Cross-entropy and what smoothing adds, against the formulas written out, with their gradient."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.backend import differentiate
from kzoo.layers.token_losses import token_losses

B, T, V = 2, 5, 7


@pytest.fixture
def drawn():
    random = np.random.default_rng(9)
    return (random.integers(V, size=(B, T)).astype("int32"), (4 * random.normal(size=(B, T, V))).astype("float32"),
            random.normal(size=(2, B, T)).astype("float32"))


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def test_agrees_with_the_formula_written_out(drawn):
    targets, logits, _ = drawn
    found = token_losses(ops.convert_to_tensor(targets), ops.convert_to_tensor(logits))
    for b, t in np.ndindex(B, T):
        right = -np.log(softmax(logits[b, t])[targets[b, t]])
        spread = logits[b, t, targets[b, t]] - logits[b, t].mean()
        assert float(found.right[b, t]) == pytest.approx(right, abs=1e-5)
        assert float(found.spread[b, t]) == pytest.approx(spread, abs=1e-5)


def test_the_gradient_agrees_with_the_formula_written_out(drawn):
    targets, logits, (by_right, by_spread) = drawn
    _, pull = differentiate(lambda logits: ops.stack(token_losses(targets, logits)), ops.convert_to_tensor(logits))
    found, = pull(ops.stack([by_right, by_spread]))
    one_hot = np.eye(V)[targets]
    expected = by_right[..., None] * (softmax(logits) - one_hot) + by_spread[..., None] * (one_hot - 1 / V)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=1e-5)
    wrong = by_right[..., None] * (softmax(logits) - one_hot)
    assert np.abs(ops.convert_to_numpy(found) - wrong).max() > 1e-2  # without what smoothing adds


def test_logits_far_apart_stay_finite():
    logits = ops.convert_to_tensor(np.array([[3e4, -3e4, 0.0]], "float32"))
    losses, pull = differentiate(lambda logits: token_losses(np.array([1]), logits).right, logits)
    assert float(losses[0]) == pytest.approx(6e4)
    np.testing.assert_allclose(ops.convert_to_numpy(pull(ops.ones_like(losses))[0]), [[1, -1, 0]], atol=1e-6)


def test_half_precision_is_computed_in_float32(drawn):
    targets, logits, _ = drawn
    found = token_losses(targets, ops.cast(logits, "float16")).right
    np.testing.assert_allclose(ops.convert_to_numpy(found), ops.convert_to_numpy(token_losses(targets, logits).right),
                               atol=1e-2)
    assert str(found.dtype).endswith("float32") or found.dtype == "float32"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="elsewhere all sizes are known while tracing")
def test_classes_may_be_counted_later(drawn):
    """Places in a text are classes where answers are looked for."""
    import tensorflow as tf

    targets, logits, weights = drawn

    def gradient(logits, targets):
        _, pull = differentiate(lambda logits: ops.stack(token_losses(targets, logits)), logits)
        return pull(ops.stack([*weights]))[0]

    unknown = [tf.TensorSpec((None, None, None)), tf.TensorSpec((None, None), "int32")]
    traced = tf.function(gradient, input_signature=unknown)
    np.testing.assert_allclose(traced(logits, targets), gradient(ops.convert_to_tensor(logits), targets), atol=1e-6)

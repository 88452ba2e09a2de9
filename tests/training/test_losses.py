"""The training loss against the formula written out."""
import numpy as np
import pytest
from keras import ops

from kzoo.training.losses import TokenCrossEntropy, class_sums, weighted_arguments

B, T, V = 2, 5, 7


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_agrees_with_the_formula_written_out(smoothing):
    random = np.random.default_rng(3)
    logits, targets = random.normal(size=(B, T, V)).astype("float32"), random.integers(V, size=(B, T)).astype("int32")
    expected = 0.0
    for b, t in np.ndindex(B, T):
        wanted = np.full(V, smoothing / V)
        wanted[targets[b, t]] += 1 - smoothing
        log_probability = logits[b, t] - np.log(np.exp(logits[b, t]).sum())
        expected -= wanted @ log_probability / (B * T)
    loss = TokenCrossEntropy(smoothing)(ops.convert_to_tensor(targets), ops.convert_to_tensor(logits))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    other = TokenCrossEntropy(smoothing + 0.1)(ops.convert_to_tensor(targets), ops.convert_to_tensor(logits))
    assert float(other) != pytest.approx(expected, rel=1e-5)


def test_half_precision_logits_are_computed_in_float32():
    logits = ops.cast(np.array([[[11.0, -11.0, 0.5]]]), "float16")
    loss = TokenCrossEntropy()(np.array([[1]]), logits)
    assert float(loss) == pytest.approx(22.0, abs=1e-3)


def batches():
    """Two batches whose rows, lengths and weights differ."""
    random = np.random.default_rng(5)
    for rows, length in ((2, 5), (3, 4)):
        yield (random.integers(V, size=(rows, length)), random.normal(size=(rows, length, V)).astype("float32"),
               random.random((rows, length)).astype("float32") * (rows == 2) + 0.1)


def written_out(targets, logits):
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]


def test_the_weighted_mean_is_over_all_batches_together():
    arguments = weighted_arguments(0.0)
    loss, metric = arguments["loss"], arguments["weighted_metrics"][0]
    total = weight = 0.0
    for targets, logits, weights in batches():
        expected = (written_out(targets, logits) * weights).sum()
        found = loss(*map(ops.convert_to_tensor, (targets, logits, weights)))
        assert float(found) == pytest.approx(expected, rel=1e-5)
        metric.update_state(targets, logits, sample_weight=weights)  # as Keras does
        total, weight = total + expected, weight + weights.sum()
    assert float(metric.result()) == pytest.approx(total / weight, rel=1e-5)
    means = [np.average(written_out(targets, logits), weights=weights) for targets, logits, weights in batches()]
    assert float(metric.result()) != pytest.approx(np.mean(means), rel=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_what_a_validation_adds_up():
    targets, logits, weights = next(batches())
    expected = [(written_out(targets, logits) * weights).sum(), weights.sum(),
                ((logits.argmax(axis=-1) == targets) * weights).sum()]
    found = class_sums(*map(ops.convert_to_tensor, (logits, targets, weights)))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5)


def test_one_label_a_text_is_told_alike():
    targets, logits = np.array([1, 0]), np.array([[0.5, 2.0], [1.0, -1.0]], "float32")
    loss = weighted_arguments(0.0)["loss"](targets, logits, np.array([0.25, 0.75], "float32"))
    assert float(loss) == pytest.approx((written_out(targets, logits) * [0.25, 0.75]).sum(), rel=1e-5)


def test_config_round_trip():
    loss = TokenCrossEntropy(0.2)
    assert TokenCrossEntropy.from_config(loss.get_config()).label_smoothing == 0.2

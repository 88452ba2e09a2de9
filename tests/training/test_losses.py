"""The training loss against the formula written out."""
import numpy as np
import pytest
from keras import ops

from kzoo.training.losses import TokenCrossEntropy

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


def test_config_round_trip():
    loss = TokenCrossEntropy(0.2)
    assert TokenCrossEntropy.from_config(loss.get_config()).label_smoothing == 0.2

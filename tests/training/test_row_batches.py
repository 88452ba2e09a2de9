"""Weights that make sums means, over batches of different size."""
import numpy as np
import pytest

from kzoo.training.row_batches import make_dataset, row_weights, step_batches


def batch(number):
    """Row lengths and so the sums of weights differ from batch to batch."""
    random = np.random.default_rng(number)
    rows, width = 2 + number % 3, 8 * (1 + number % 2)
    weights = (random.random((rows, width)) < 0.6).astype("float32")
    return {"token_ids": random.integers(9, size=(rows, width))}, random.integers(5, size=(rows, width)), weights


@pytest.mark.parametrize("batches_per_step", [1, 2, 3])
def test_a_step_is_the_mean_over_all_its_tokens(batches_per_step):
    made = list(step_batches(batch, 0, 6, batches_per_step))
    for start in range(0, 6, batches_per_step):
        here = range(start, start + batches_per_step)
        losses = {number: np.random.default_rng(100 + number).random(batch(number)[2].shape) for number in here}
        # Keras takes the mean of the gradients of the batches, each that of a sum of weighted losses.
        found = np.mean([(made[number][2] * losses[number]).sum() for number in here])
        total = sum(batch(number)[2].sum() for number in here)
        expected = sum((batch(number)[2] * losses[number]).sum() for number in here) / total
        assert found == pytest.approx(expected, rel=1e-5)
        if batches_per_step > 1:  # the mean of the batches' own means is another thing
            means = [(batch(number)[2] * losses[number]).sum() / batch(number)[2].sum() for number in here]
            assert np.mean(means) != pytest.approx(expected, rel=1e-5)


def test_a_step_without_any_weight_is_no_division_by_zero():
    def nothing(number):
        inputs, targets, weights = batch(number)
        return inputs, targets, weights * 0

    assert all(np.isfinite(weights).all() for _, _, weights in step_batches(nothing, 0, 2, 2))


def test_the_dataset_gives_what_the_generator_gives():
    expected = list(step_batches(batch, 2, 6, 2))
    found = list(make_dataset(lambda: step_batches(batch, 2, 6, 2), batch(0)))
    assert len(found) == len(expected) == 4
    for (inputs, *rest), (wanted, *others) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(inputs["token_ids"]), wanted["token_ids"])
        for array, other in zip(rest, others, strict=True):
            np.testing.assert_array_equal(np.asarray(array), other)


def test_rows_that_fill_up_count_for_nothing():
    assert row_weights(np.arange(5), 3).tolist() == [1, 1, 1, 0, 0]

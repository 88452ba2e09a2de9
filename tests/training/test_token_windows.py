"""Batches: a function of their number, every window once an epoch, targets shifted by one."""
import keras
import numpy as np
import pytest

from kzoo.training import token_windows
from kzoo.training.token_windows import TokenWindows, make_dataset

N, T, B = 211, 5, 3


def windows(count=N, seed=11):
    return TokenWindows(np.arange(count, dtype="uint16"), T, B, seed)


def test_windows_are_runs_of_tokens():
    batch = windows().batches(0, 7)
    assert batch.shape == (7, B, T + 1)
    assert batch.dtype == np.int32
    np.testing.assert_array_equal(batch - batch[..., :1], np.broadcast_to(np.arange(T + 1), batch.shape))


def test_a_batch_does_not_depend_on_what_was_read_before():
    whole = windows().batches(0, 60)  # four epochs
    other = windows()
    for first, last in ((41, 47), (2, 31), (0, 1)):
        np.testing.assert_array_equal(other.batches(first, last), whole[first:last])
    assert not np.array_equal(windows(seed=12).batches(0, 60), whole)


@pytest.mark.parametrize("count", [T + 1, T + 2, 2 * T, 2 * T + 1, N])
def test_an_epoch_sees_every_window_once(count):
    source = windows(count)
    per_epoch = source.windows_per_epoch
    rows = source.batches(0, 6 * per_epoch).reshape(-1, T + 1)
    phases = set()
    for epoch in range(6 * B):
        starts = np.sort(rows[epoch * per_epoch:(epoch + 1) * per_epoch, 0])
        np.testing.assert_array_equal(np.diff(starts), [T] * (per_epoch - 1))
        phases.add(int(starts[0]))
        assert starts[0] >= 0 and starts[-1] + T < count
    assert len(phases) > 1 or count == T + 1  # another place to cut, another order


def test_the_order_changes_from_epoch_to_epoch():
    source = windows()
    per_epoch = source.windows_per_epoch
    rows = source.batches(0, 2 * per_epoch).reshape(-1, T + 1)[:, 0]
    first, second = rows[:per_epoch] // T, rows[per_epoch:2 * per_epoch] // T
    assert not np.array_equal(first, second) and not np.array_equal(first, np.sort(first))


def test_steps_per_epoch_rounds_up():
    source = windows()
    assert source.windows_per_epoch == 41
    assert source.steps_per_epoch() == 14
    assert source.steps_per_epoch(2) == 7


def test_too_few_tokens_are_refused():
    with pytest.raises(ValueError, match="needs 6 tokens; there are 5"):
        windows(5)


def test_the_dataset_gives_the_batches_with_their_targets(monkeypatch):
    monkeypatch.setattr(token_windows, "BLOCK", 4)
    source = windows()
    pairs = list(make_dataset(source, 3, 13))
    expected = source.batches(3, 13)
    assert len(pairs) == 10
    for (inputs, targets), batch in zip(pairs, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(inputs["token_ids"]), batch[:, :-1])
        np.testing.assert_array_equal(np.asarray(targets), batch[:, 1:])


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data is used on the TensorFlow backend only")
def test_tf_data_knows_the_shapes():
    inputs, targets = make_dataset(windows(), 0, 2).element_spec
    assert inputs["token_ids"].shape == targets.shape == (B, T)

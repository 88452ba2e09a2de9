"""Beside the steps: rows, rates, the order of writing, and a diverged run."""
import types

import pytest

from kzoo.errors import CheckFailed
from kzoo.training import callbacks
from kzoo.training.callbacks import EndInterval, ShowProgress, Speed, describe, write_log
from kzoo.training.progress import Progress

ROWS = [{"step": 3, "tokens": 33, "learning_rate": 0.1, "loss": 1 / 3, "valid_loss": None},
        {"step": 5, "tokens": 55, "learning_rate": 1e-05, "loss": 0.25, "valid_loss": 0.5}]


def test_the_log_is_csv_and_keeps_every_digit(tmp_path):
    write_log(tmp_path / "log.csv", ROWS)
    assert (tmp_path / "log.csv").read_text() == (
        f"step,tokens,learning_rate,loss,valid_loss\n3,33,0.1,{1 / 3!r},\n5,55,1e-05,0.25,0.5\n")


def test_the_log_has_what_the_task_measures(tmp_path):
    write_log(tmp_path / "log.csv", [{**ROWS[1], "valid_exact": 0.75}], ("exact",))
    assert (tmp_path / "log.csv").read_text() == (
        "step,tokens,learning_rate,loss,valid_loss,valid_exact\n5,55,1e-05,0.25,0.5,0.75\n")


def test_speed_counts_steps_and_not_pauses(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now[0])
    speed = Speed(lambda step: 11 * step)
    assert speed.tokens_per_second() is None
    for step, at in ((1, 100.0), (2, 101.0), (4, 103.0)):  # the first took long: it compiled
        now[0] = at
        speed.step(step)
    assert speed.tokens_per_second() == 11
    speed.pause()
    now[0] = 500.0  # a validation
    speed.step(5)
    now[0] = 501.0
    speed.step(9)
    assert speed.tokens_per_second() == pytest.approx((3 + 4) * 11 / (3 + 1))


class Parts:
    """An EndInterval whose parts write down what was called."""

    def __init__(self, tmp_path, valid=0.5, enough=None):
        self.calls, self.history = [], []
        progress = Progress("training", 8, "steps")
        self.callback = EndInterval(
            8, 3, self.history, lambda step: step / 10, lambda logs: logs["mean"], lambda step: 11 * step,
            lambda: self.calls.append("validate") or {"loss": valid, "accuracy": 0.25}, ("accuracy",),
            lambda history: self.calls.append(("save", history[-1]["step"], len(history))),
            lambda history: len(history) == enough, tmp_path / "log.csv", self, progress, Speed(lambda step: 11 * step))
        self.callback.set_model(types.SimpleNamespace(stop_training=False))

    def scalars(self, step, values):
        self.calls.append(("scalars", step, values["loss"]))


def test_the_checkpoint_comes_before_the_logs(tmp_path, monkeypatch, capsys):
    parts = Parts(tmp_path)
    monkeypatch.setattr(callbacks, "write_log", lambda path, rows, measures: parts.calls.append(("log", len(rows))))
    parts.callback.on_epoch_end(0, {"mean": 1.25})
    parts.callback.on_epoch_end(2, {"mean": 1.0})
    assert parts.calls == ["validate", ("save", 3, 1), ("log", 1), ("scalars", 3, 1.25),
                           "validate", ("save", 8, 2), ("log", 2), ("scalars", 8, 1.0)]  # 8 steps: the last is shorter
    assert parts.history[0] == {"step": 3, "tokens": 33, "learning_rate": 0.2, "loss": 1.25, "valid_loss": 0.5,
                                "valid_accuracy": 0.25}
    assert "3/8 steps  loss 1.2500  valid 0.5000  accuracy 0.2500" in capsys.readouterr().err


def test_training_stops_after_the_checkpoint_when_it_is_enough(tmp_path):
    parts = Parts(tmp_path, enough=2)
    for epoch in (0, 1):
        assert not parts.callback.model.stop_training
        parts.callback.on_epoch_end(epoch, {"mean": 1.0})
    assert parts.callback.model.stop_training and ("save", 6, 2) in parts.calls


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_diverged_run_stops_without_a_checkpoint(tmp_path, loss):
    parts = Parts(tmp_path)
    with pytest.raises(CheckFailed, match="The training loss is .* at step 3: training has diverged"):
        parts.callback.on_epoch_end(0, {"mean": loss})
    assert parts.calls == []
    parts.callback.validate = lambda: {"loss": loss, "accuracy": 0.0}  # only the last step of the interval was bad
    with pytest.raises(CheckFailed, match="The validation loss is .* at step 3: training has diverged"):
        parts.callback.on_epoch_end(0, {"mean": 1.0})
    assert parts.calls == [] and parts.history == []


def test_batches_are_counted_as_steps(monkeypatch):
    progress, seen = Progress("training", 100, "steps"), []
    monkeypatch.setattr(progress, "due", lambda: True)
    monkeypatch.setattr(progress, "update", lambda step, words: seen.append((step, words)))
    shown = ShowProgress(progress, Speed(lambda step: 11 * step), interval=5, batches_per_step=2)
    shown.on_epoch_begin(2)
    for batch in range(4):
        shown.on_train_batch_end(batch, {"loss": 2.0})
    assert [step for step, _ in seen] == [11, 11, 12]
    assert seen[0][1].startswith("loss 2.0000")


def test_describe_leaves_out_what_is_unknown():
    assert describe(None, None) == ""
    assert describe({"loss": 1.0, "valid_loss": None}, 21_550.0) == "loss 1.0000  21.6k tokens/s"

"""What happens beside the steps of `fit`: progress, and at the end of every interval validation, logs, checkpoint."""
import csv
import io
import math
import time

import keras

from kzoo.errors import CheckFailed
from kzoo.files import write_atomic

COLUMNS = ("step", "tokens", "learning_rate", "loss", "valid_loss")


def write_log(path, history):
    """Rows of `history` as CSV. The whole file at once, so that a resumed run's log has no row twice."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in history:
        writer.writerow(["" if row[name] is None else row[name] for name in COLUMNS])
    write_atomic(path, file.getvalue())


class Speed:
    """Tokens a second of the steps alone: compiling, validation and checkpoints do not count."""

    def __init__(self, tokens_per_step):
        self.tokens_per_step = tokens_per_step
        self._steps = self._seconds = 0
        self._first = self._last = None

    def pause(self):
        """Close the present stretch of steps."""
        if self._first is not None:
            self._steps += self._last[0] - self._first[0]
            self._seconds += self._last[1] - self._first[1]
        self._first = self._last = None

    def step(self, step):
        """`step` has just ended. The first after a pause starts the clock."""
        self._last = (step, time.perf_counter())
        self._first = self._first or self._last

    def tokens_per_second(self):
        """None before there are two steps."""
        steps, seconds = self._steps, self._seconds
        if self._first is not None:
            steps, seconds = steps + self._last[0] - self._first[0], seconds + self._last[1] - self._first[1]
        return steps * self.tokens_per_step / seconds if seconds else None


class ShowProgress(keras.callbacks.Callback):
    """Counts steps and shows them.

    Args:
        progress: an open `Progress` in steps.
        speed: a `Speed`.
        interval: steps in an epoch of `fit`.
        batches_per_step: of gradient accumulation.
    """

    async_safe = True  # lets Keras run ahead of the device instead of waiting for every loss

    def __init__(self, progress, speed, interval, batches_per_step):
        super().__init__()
        self.progress = progress
        self.speed = speed
        self.interval = interval
        self.batches_per_step = batches_per_step
        self._started = False
        self._first = 0  # step of the interval that runs

    def on_epoch_begin(self, epoch, logs=None):
        self._first = epoch * self.interval

    def on_train_batch_end(self, batch, logs=None):
        step = self._first + (batch + 1) // self.batches_per_step
        self.speed.step(step)
        if not self._started:  # the first step compiles
            self._started = True
            self.progress.start_clock(step)
        elif self.progress.due():
            self.progress.update(step, describe(logs, self.speed.tokens_per_second()))

    def on_epoch_end(self, epoch, logs=None):
        self.speed.pause()


class EndInterval(keras.callbacks.Callback):
    """Validates, then writes the checkpoint, then the logs: a row is never ahead of the weights.

    Args:
        steps, interval: of the run; the last interval may be shorter.
        history: list of row dicts, extended in place.
        learning_rate: step -> learning rate.
        tokens_per_step: read by one optimizer step.
        validate: () -> loss, or None.
        save: (step, history) -> None, the checkpoint.
        log: path of the CSV file.
        events: an `EventFile`, or None.
        progress: an open `Progress`.
        speed: a `Speed`.
    """

    def __init__(self, steps, interval, history, learning_rate, tokens_per_step, validate, save, log, events, progress,
                 speed):
        super().__init__()
        self.steps = steps
        self.interval = interval
        self.history = history
        self.learning_rate = learning_rate
        self.tokens_per_step = tokens_per_step
        self.validate = validate
        self.save = save
        self.log = log
        self.events = events
        self.progress = progress
        self.speed = speed

    def on_epoch_end(self, epoch, logs=None):
        step = min((epoch + 1) * self.interval, self.steps)
        loss = logs["loss"]
        if not math.isfinite(loss):
            raise CheckFailed(f"The training loss is {loss} at step {step}: training has diverged. Use a lower "
                              "learning rate, a longer warm-up or gradient clipping.")
        valid_loss = self.validate() if self.validate else None
        row = dict(zip(COLUMNS, (step, step * self.tokens_per_step, self.learning_rate(step - 1), loss, valid_loss),
                       strict=True))
        self.history.append(row)
        self.save(step, self.history)
        write_log(self.log, self.history)
        rate = self.speed.tokens_per_second()
        if self.events:
            self.events.scalars(step, {"loss": loss, "valid_loss": valid_loss, "learning_rate": row["learning_rate"],
                                       "tokens_per_second": rate})
        self.progress.note(self.progress.line(step, describe(row, rate)))


def describe(logs, rate):
    """`loss 1.234  valid 1.345  21.0k tokens/s`, of what is known."""
    words = [f"{word} {logs[name]:.4f}" for name, word in (("loss", "loss"), ("valid_loss", "valid"))
             if (logs or {}).get(name) is not None]
    if rate:
        words.append(f"{rate / 1000:,.1f}k tokens/s")
    return "  ".join(words)

"""What happens beside the steps of `fit`: progress, and at the end of every interval validation, logs, checkpoint."""
import csv
import io
import math
import time

import keras

from kzoo.errors import CheckFailed
from kzoo.files import write_atomic

COLUMNS = ("step", "tokens", "learning_rate", "loss", "valid_loss")  # and what else the task measures


def write_log(path, history, measures=()):
    """Rows of `history` as CSV. The whole file at once, so that a resumed run's log has no row twice.

    Args:
        measures: what a validation measures besides the loss.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = (*COLUMNS, *(f"valid_{name}" for name in measures))
    writer.writerow(columns)
    for row in history:
        writer.writerow(["" if row[name] is None else row[name] for name in columns])
    write_atomic(path, file.getvalue())


class Speed:
    """Tokens a second of the steps alone: compiling, validation and checkpoints do not count.

    Args:
        tokens: step -> how many tokens all steps up to it have read.
    """

    def __init__(self, tokens):
        self.tokens = tokens
        self._tokens = self._seconds = 0
        self._first = self._last = None

    def pause(self):
        """Close the present stretch of steps."""
        if self._first is not None:
            tokens, seconds = self._stretch()
            self._tokens, self._seconds = self._tokens + tokens, self._seconds + seconds
        self._first = self._last = None

    def step(self, step):
        """`step` has just ended. The first after a pause starts the clock."""
        self._last = (step, time.perf_counter())
        self._first = self._first or self._last

    def tokens_per_second(self):
        """None before there are two steps."""
        tokens, seconds = self._tokens, self._seconds
        if self._first is not None:
            more = self._stretch()
            tokens, seconds = tokens + more[0], seconds + more[1]
        return tokens / seconds if seconds else None

    def _stretch(self):
        """(tokens, seconds) since the last pause."""
        return self.tokens(self._last[0]) - self.tokens(self._first[0]), self._last[1] - self._first[1]


class ShowProgress(keras.callbacks.Callback):
    """Counts steps and shows them.

    Args:
        progress: an open `Progress` in steps.
        speed: a `Speed`.
        interval: steps in an epoch of `fit`.
        batches_per_step: of gradient accumulation.
        loss: the logs of `fit` -> the training loss.
    """

    async_safe = True  # lets Keras run ahead of the device instead of waiting for every loss

    def __init__(self, progress, speed, interval, batches_per_step, loss=lambda logs: logs["loss"]):
        super().__init__()
        self.loss = loss
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
            self.progress.update(step, describe({"loss": self.loss(logs)}, self.speed.tokens_per_second()))

    def on_epoch_end(self, epoch, logs=None):
        self.speed.pause()


class EndInterval(keras.callbacks.Callback):
    """Validates, then writes the checkpoint, then the logs: a row is never ahead of the weights.

    Args:
        steps, interval: of the run; the last interval may be shorter.
        history: list of row dicts, extended in place.
        learning_rate: step -> learning rate.
        loss: the logs of `fit` -> the training loss.
        tokens: step -> how many tokens all steps up to it have read.
        validate: () -> dict of `loss` and the task's measures; or None.
        measures: their names.
        save: history -> None, the checkpoint.
        should_stop: history -> whether training ends here.
        log: path of the CSV file.
        events: an `EventFile`, or None.
        progress: an open `Progress`.
        speed: a `Speed`.
    """

    def __init__(self, steps, interval, history, learning_rate, loss, tokens, validate, measures, save, should_stop,
                 log, events, progress, speed):
        super().__init__()
        self.steps = steps
        self.interval = interval
        self.history = history
        self.learning_rate = learning_rate
        self.loss = loss
        self.tokens = tokens
        self.validate = validate
        self.measures = measures
        self.save = save
        self.should_stop = should_stop
        self.log = log
        self.events = events
        self.progress = progress
        self.speed = speed

    def on_epoch_end(self, epoch, logs=None):
        step = min((epoch + 1) * self.interval, self.steps)
        loss = self.loss(logs)
        _refuse_diverged("training", loss, step)
        valid = dict.fromkeys(("loss", *self.measures))
        if self.validate:
            valid = self.validate()
            # The mean over the interval does not show what the last step did, and no checkpoint may hold it.
            _refuse_diverged("validation", valid["loss"], step)
        row = {"step": step, "tokens": self.tokens(step), "learning_rate": self.learning_rate(step - 1), "loss": loss,
               **{f"valid_{name}": valid[name] for name in ("loss", *self.measures)}}
        self.history.append(row)
        self.save(self.history)
        write_log(self.log, self.history, self.measures)
        rate = self.speed.tokens_per_second()
        if self.events:
            scalars = {name: value for name, value in row.items() if name not in ("step", "tokens")}
            self.events.scalars(step, {**scalars, "tokens_per_second": rate})
        self.progress.note(self.progress.line(step, describe(row, rate)))
        if self.should_stop(self.history):
            self.model.stop_training = True


def _refuse_diverged(what, loss, step):
    if not math.isfinite(loss):
        raise CheckFailed(f"The {what} loss is {loss} at step {step}: training has diverged. Use a lower "
                          "learning rate, a longer warm-up or gradient clipping.")


def describe(logs, rate):
    """`loss 1.234  valid 1.345  accuracy 0.8765  21.0k tokens/s`, of what is known."""
    words = [f"{_word(name)} {value:.4f}" for name, value in (logs or {}).items()
             if value is not None and (name == "loss" or name.startswith("valid_"))]
    if rate:
        words.append(f"{rate / 1000:,.1f}k tokens/s")
    return "  ".join(words)


def _word(name):
    return "valid" if name == "valid_loss" else name.removeprefix("valid_")

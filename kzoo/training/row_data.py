"""Data of tasks whose examples are rows of their own, encoded on disk and batched by length."""
import abc

import numpy as np
from keras import ops

from kzoo.backend import compile_function
from kzoo.training.buckets import Buckets, choose_shapes, in_order
from kzoo.training.losses import class_sums, weighted_arguments
from kzoo.training.row_batches import make_dataset, row_weights, step_batches
from kzoo.training.task_data import Scorer, TaskData


class RowData(TaskData):
    """Batches of rows.

    A task says how its examples are encoded (`encode`), how long rows are (`lengths`), and what a batch looks like
    (`collate`).

    Args:
        train, valid: `Examples`; the latter None or empty where nothing is held out.
        options: `TrainOptions`.
        encoder: what made them; it knows the tokenizer, the labels and the longest row.
    """

    def __init__(self, train, valid, options, encoder):
        self.train, self.valid = train, valid if valid is not None and len(valid) else None
        self.encoder = encoder
        self.batches_per_step = options.gradient_accumulation
        self._class_weights = encoder.class_weights
        lengths = [encoder.lengths(part) for part in (train, self.valid) if part is not None]
        self.shapes = choose_shapes(np.concatenate(lengths), options.length_buckets, encoder.limits)
        self._buckets = Buckets(lengths[0], self.shapes, options.batch_size, options.batch_tokens, options.seed,
                                options.sort_by_length)
        self.sizes = self._buckets.sizes
        self.sequence_length = int(self.shapes.max())
        self.largest_batch = int((self.sizes * self.shapes.sum(axis=1)).max())
        self.num_shapes = len(self.shapes)
        self.measures, self.metric = encoder.measures, encoder.metric

    def steps_per_epoch(self):
        return -(-self._buckets.batches_per_epoch // self.batches_per_step)

    def tokens(self, step):
        return self._buckets.tokens(step * self.batches_per_step)

    def batch(self, number):
        """(inputs, targets, weights) of one batch; a function of its number."""
        shape, rows, count = self._buckets.batch(number)
        inputs, targets, weights = self.encoder.collate(self.train, rows, shape)
        if self._class_weights is not None:
            weights = weights * self._class_weights[targets]
        return inputs, targets, weights * _along(row_weights(rows, count), weights)

    def dataset(self, first, last):
        return make_dataset(lambda: step_batches(self.batch, first, last, self.batches_per_step), self.batch(first))

    def compile_arguments(self, label_smoothing):
        return self.encoder.compile_arguments(label_smoothing)

    def reported_loss(self, logs):
        return self.encoder.reported_loss(logs)

    def scorer(self, model):
        return RowScorer(model, self) if self.valid is not None else None


class RowEncoder(abc.ABC):
    """How a task's examples become rows, and rows batches.

    Attributes:
        ragged, single: names of the columns whose rows have several values, and one.
        measures, metric: see `TaskData`.
        class_weights: (N,) float32 by label, or None.
        limits: most tokens on each axis, or None.
    """

    ragged = ("token_ids",)
    single = ()
    measures = ()
    metric = "loss"
    class_weights = None

    @abc.abstractmethod
    def encode(self, examples):
        """[(example, rows, fault)]: for each example its dicts of columns, or the reason why there is none."""

    @abc.abstractmethod
    def collate(self, examples, rows, shape):
        """(inputs, targets, weights) in numpy: the chosen rows of `Examples`, filled up to `shape`."""

    def lengths(self, examples):
        """(N, axes) int."""
        return np.stack([examples[name].lengths for name in self.ragged[:1]], axis=1)

    def sums(self, outputs, targets, weights):
        """See `class_sums`."""
        return class_sums(outputs, targets, weights)

    def compile_arguments(self, label_smoothing):
        """See `TaskData`."""
        return weighted_arguments(label_smoothing)

    def reported_loss(self, logs):
        """See `TaskData`."""
        return logs["weighted_loss"]

    def results(self, sums):
        """The dict of a `Scorer` from those sums."""
        loss, total, right = map(float, sums)
        return {"loss": loss / total, **{name: right / total for name in self.measures}}

    def facts(self, results, rows, total):
        """`results` with whatever else is worth keeping at the end of a run, for `rows` rows of weight `total`."""
        return {**results, "examples": rows}


class RowScorer(Scorer):
    """Measures a model on held-out rows, each once.

    Args:
        model: a task model.
        data: `RowData`.
        jit: compile with XLA; None does so on accelerators.
    """

    def __init__(self, model, data, jit=None):
        self.data = data
        self._lengths = data.encoder.lengths(data.valid)
        self.tokens = int(self._lengths.sum())
        self._names = None
        self._model = model
        self._compiled = compile_function(model, self._sums, jit)

    def score(self, max_tokens=None, report=None):
        return self._measure(max_tokens, report)[0]

    def results(self, max_tokens=None, report=None):
        return self.data.encoder.facts(*self._measure(max_tokens, report))

    def _measure(self, max_tokens, report):
        """(results, rows, sum of weights)"""
        count = len(self._lengths)
        chosen = count if max_tokens is None else min(count, max(1, max_tokens * count // self.tokens))
        sums, done = np.zeros(3), 0
        for shape, rows, size in self._batches(np.arange(chosen) * count // chosen):
            inputs, targets, weights = self.data.encoder.collate(self.data.valid, np.resize(rows, size), shape)
            weights = weights * _along(row_weights(np.resize(rows, size), len(rows)), weights)
            arrays = {**{f"input {name}": array for name, array in inputs.items()}, "weights": weights,
                      **(targets if isinstance(targets, dict) else {"targets": targets})}
            self._names = self._names or tuple(arrays)
            found = self._compiled(*(ops.convert_to_tensor(arrays[name]) for name in self._names))
            sums += ops.convert_to_numpy(found)
            done += int(self._lengths[rows].sum())
            if report is not None:
                report(done)
        return self.data.encoder.results(sums), chosen, float(sums[1])

    def _batches(self, rows):
        """Whole batches, so that there are no more shapes than in training."""
        shapes, sizes = self.data.shapes, self.data.sizes
        size_of = {tuple(map(int, shape)): int(size) for shape, size in zip(shapes, sizes, strict=True)}
        for shape, here in in_order(self._lengths, shapes, sizes, rows):
            yield shape, here, size_of[shape]

    def _sums(self, *tensors):
        arrays = dict(zip(self._names, tensors, strict=True))
        inputs = {name.removeprefix("input "): arrays.pop(name) for name in self._names if name.startswith("input ")}
        weights = arrays.pop("weights")
        targets = arrays.get("targets", arrays)
        return self.data.encoder.sums(self._model(inputs, training=False), targets, weights)


def _along(weights, like):
    """(B,) weights with as many axes as `like`."""
    return weights.reshape(-1, *[1] * (like.ndim - 1))

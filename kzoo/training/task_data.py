"""What a task's files become for the trainer: batches, a loss, and a measure of what is held out."""
import abc

from kzoo.training.losses import TokenCrossEntropy


class TaskData(abc.ABC):
    """The encoded data of a run.

    Attributes:
        sequence_length: most tokens of a row.
        largest_batch: tokens in the largest batch, filling included.
        num_shapes: how many shapes batches have.
        batches_per_step: of gradient accumulation.
        measures: what the scorer gives besides the loss, for example ("accuracy",).
        metric: "loss", or the one of `measures` that decides which checkpoint is the best.
        valid: what is held out, or None.
        validation_tokens: how many a validation along the way looks at, at most, where the options leave it open; None:
            all.
    """

    measures = ()
    metric = "loss"
    validation_tokens = None
    num_shapes = 1

    @abc.abstractmethod
    def steps_per_epoch(self):
        """Optimizer steps that see every example of an epoch, rounded up."""

    @abc.abstractmethod
    def tokens(self, step):
        """How many real tokens the first `step` steps read."""

    @abc.abstractmethod
    def dataset(self, first, last):
        """Batches `first` to `last` (not included) for `model.fit`; both are multiples of `batches_per_step`."""

    @abc.abstractmethod
    def scorer(self, model):
        """A `Scorer` of what is held out, or None if nothing is."""

    def training_model(self, model):
        """What is compiled and fitted: the model, or one around it that keeps what passes from batch to batch."""
        return model

    def compile_arguments(self, label_smoothing):
        """Arguments of `model.compile`: the loss and how it is told."""
        return {"loss": TokenCrossEntropy(label_smoothing)}

    def reported_loss(self, logs):
        """The training loss in the logs of `fit`."""
        return logs["loss"]


class Scorer(abc.ABC):
    """Measures a model on what is held out.

    Attributes:
        tokens: how many are held out.
    """

    @abc.abstractmethod
    def score(self, max_tokens=None, report=None):
        """dict of `loss` and the data's `measures`.

        Args:
            max_tokens: look at about so many, spread evenly; None: at all.
            report: called with the number of tokens done, now and then.
        """

    def results(self, max_tokens=None, report=None):
        """`score` with whatever else is worth keeping at the end of a run."""
        return self.score(max_tokens, report)

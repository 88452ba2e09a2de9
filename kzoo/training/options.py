"""How to train: every number and switch of a run, checked before any work."""
import dataclasses
import math

from kzoo.config import Config
from kzoo.errors import unknown

SCHEDULES = ("constant", "linear", "cosine", "inverse-sqrt")
PRECISIONS = ("float16", "bfloat16")
JIT = ("auto", "on", "off")
KEEP = ("last", "best")
SIDES = ("end", "start")
EPOCH = "epoch"
DEFAULT_STEPS = 2000
FAIRSEQ_START = 1e-7  # of its inverse square root schedule

# What may differ between a run and its resumption: how it is computed, not what.
FREE = ("jit", "deterministic")


@dataclasses.dataclass(frozen=True)
class TrainOptions(Config):
    """The options of `train`. The defaults are those of nanoGPT's setting for a CPU.

    Attributes:
        validation_split: share of the data held out where no validation file is given; 0: nothing. Of a text it is the
            end, of other data rows drawn from the seed.
        sequence_length: T, tokens in a window, or the most in a row; None means the model's `max_sequence_length`.
        truncate: cut texts that are longer at their "end" or their "start"; None refuses them.
        steps, epochs: optimizer steps, or passes over the training data; None and None mean 2,000 steps.
        batch_size: windows or rows in a batch.
        batch_tokens: instead of `batch_size`: tokens in a batch, filling included, of the longer side of pairs.
        length_buckets: the most shapes that batches of rows are filled up to.
        sort_by_length: make batches of rows with nearly the same length, as fairseq does: sorted by length (of pairs
            the source's, then the target's) before they are cut. Otherwise rows of a shape are mixed.
        gradient_accumulation: batches whose mean gradient makes one step.
        learning_rate: the highest, reached after the warm-up.
        min_learning_rate: at the end of the schedule; None means a tenth of `learning_rate`, or 0 for "inverse-sqrt".
        initial_learning_rate: at the first step; None means one step's share of the rise, or 1e-7 for "inverse-sqrt".
        warmup_steps: None means 100, or a tenth of the steps where that is less.
        schedule: "constant", "linear", "cosine" or "inverse-sqrt"; see `WarmupSchedule`.
        weight_decay: AdamW's decoupled decay, of matrices and embeddings only.
        beta_1, beta_2: AdamW's memory of the gradient and of its square.
        adam_epsilon: added to the root of the latter.
        clip_norm: gradients longer than this, all taken together, are shortened to it; 0 switches it off.
        label_smoothing: see `TokenCrossEntropy`.
        class_weights: "balanced", or "label=weight,..."; how much an example of a label counts. None: all the same.
        whole_words: hide whole words in masked language modelling.
        mixed_precision: "float16" or "bfloat16": compute in it, keep weights in float32; None computes in float32.
        jit: "on" compiles the step with XLA, "off" does not, "auto" decides by device and says so.
        seed: of fresh weights, the order of the data and dropout.
        deterministic: the same bits on every run on one machine; slower, and without XLA on TensorFlow.
        interval: steps between two checkpoints, each with a validation and a row in the log; or "epoch".
        validation_tokens: at most so many, spread evenly, are looked at in a validation along the way; None means
            131,072 of a text, and all of other data.
        keep: the run ends with the weights of its "last" checkpoint, or of the "best" one by validation.
        average_checkpoints: the mean of so many checkpoints, the last ones, takes the place of the last; 0: none.
        patience: stop when so many validations in a row were no better than the best before; None: never.
    """
    validation_split: float = 0.1
    sequence_length: int | None = None
    truncate: str | None = None
    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 12
    batch_tokens: int | None = None
    length_buckets: int = 6
    sort_by_length: bool = False
    gradient_accumulation: int = 1
    learning_rate: float = 1e-3
    min_learning_rate: float | None = None
    initial_learning_rate: float | None = None
    warmup_steps: int | None = None
    schedule: str = "cosine"
    weight_decay: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.99
    adam_epsilon: float = 1e-8
    clip_norm: float = 1.0
    label_smoothing: float = 0.0
    class_weights: str | None = None
    whole_words: bool = False
    mixed_precision: str | None = None
    jit: str = "auto"
    seed: int = 0
    deterministic: bool = False
    interval: int | str = 250
    validation_tokens: int | None = None
    keep: str = "last"
    average_checkpoints: int = 0
    patience: int | None = None

    def check(self):
        for field in ("sequence_length", "steps", "epochs", "batch_size", "batch_tokens", "length_buckets",
                      "gradient_accumulation", "validation_tokens", "patience"):
            value = getattr(self, field)
            self.require(value is None or value >= 1, field, "must be at least 1")
        self.require(self.interval == EPOCH or isinstance(self.interval, int) and self.interval >= 1, "interval",
                     'must be at least 1, or "epoch"')
        self.require(self.average_checkpoints >= 0, "average_checkpoints", "must be at least 0")
        for field in ("learning_rate", "min_learning_rate", "initial_learning_rate", "weight_decay", "clip_norm",
                      "beta_1", "beta_2", "adam_epsilon", "label_smoothing", "validation_split"):
            value = getattr(self, field)
            self.require(value is None or math.isfinite(value) and value >= 0, field, "must be a number of at least 0")
        for field in ("beta_1", "beta_2", "label_smoothing", "validation_split"):
            self.require(getattr(self, field) < 1, field, "must be below 1")
        for field in ("learning_rate", "adam_epsilon"):
            self.require(getattr(self, field) > 0, field, "must be above 0")
        self.require(0 <= self.seed < 1 << 32, "seed", "must be at least 0 and below 2**32")
        self.require(self.steps is None or self.epochs is None, "epochs", "and `steps` exclude each other; give one")
        for field in ("min_learning_rate", "initial_learning_rate"):
            self.require((getattr(self, field) or 0) <= self.learning_rate, field,
                         f"must be at most `learning_rate` ({self.learning_rate})")
        self.require(self.warmup_steps is None or self.warmup_steps >= 0, "warmup_steps", "must be at least 0")
        self.require(None in (self.warmup_steps, self.steps) or self.warmup_steps < self.steps,
                     "warmup_steps", f"must be below `steps` ({self.steps})")
        for field, names in (("schedule", SCHEDULES), ("jit", JIT), ("mixed_precision", (*PRECISIONS, None)),
                             ("keep", KEEP), ("truncate", (*SIDES, None))):
            if getattr(self, field) not in names:
                raise ValueError(unknown(f"`{field}`", getattr(self, field), names))

    def resolve(self, sequence_length, steps_per_epoch):
        """The same options with every None that depends on the model or the data filled in."""
        steps = self.steps or (self.epochs * steps_per_epoch if self.epochs else DEFAULT_STEPS)
        warmup = min(100, steps // 10) if self.warmup_steps is None else self.warmup_steps
        minimum, initial = self.min_learning_rate, self.initial_learning_rate
        if self.schedule == "inverse-sqrt":
            minimum = 0.0 if minimum is None else minimum
            initial = min(FAIRSEQ_START, self.learning_rate) if initial is None else initial
        minimum = self.learning_rate / 10 if minimum is None else minimum
        interval = steps_per_epoch if self.interval == EPOCH else self.interval
        return self.replace(sequence_length=sequence_length, steps=steps, epochs=None, warmup_steps=warmup,
                            min_learning_rate=minimum, initial_learning_rate=initial, interval=min(interval, steps))

    def identity(self):
        """The options that decide which weights come out."""
        return {name: value for name, value in self.to_dict().items() if name not in FREE}


def parse_overrides(config_class, overrides):
    """Config fields by name; words, as they come from a command line, become values of the field's type.

    Raises: ValueError for an unknown field, or a word that is no value of its type.
    """
    overrides = overrides or {}
    words = {name: value for name, value in overrides.items() if isinstance(value, str)}
    config_class.refuse_unknown(overrides)
    return {**overrides, **config_class.parse(words)}

"""Where the model and the tokenizer of a run come from."""
import contextlib
import dataclasses
import itertools
import os
import pathlib
import random

from kzoo.registry import get_preset, get_task_class
from kzoo.saving import check_vocabulary, create, load, read_stored, special_ids
from kzoo.tokenizers import KINDS, Tokenizer, load_tokenizer, train_tokenizer
from kzoo.training.options import parse_overrides

SAMPLE = 10**8  # characters that a tokenizer is trained on; more take minutes and change little
# Task -> the kind of tokenizer that is trained for it: with the special tokens it needs. For the others wordpiece.
TOKENIZERS = {"text-generation": "byte-bpe", "translation": "sentencepiece", "summarization": "sentencepiece"}


class ModelSource:
    """A preset to build, a folder to load, or a model that is there.

    Args:
        model: preset name, folder, or task model.
        task: what it shall do.
        overrides: config fields, for a preset or a folder.
        precision: "float16", "bfloat16" or None.

    Attributes:
        name: what it is, in words.
        config: the model's; of a folder only after `open`.
        tokenizer: the model's own, or None.
        labels: of the model, or None.

    Raises: ValueError, TypeError or OSError for anything unknown or inconsistent, before any work.
    """

    def __init__(self, model, task, overrides, precision):
        self.task = task
        self._dtype = f"mixed_{precision}" if precision else None
        self._preset = self._folder = self._model = None
        self.tokenizer = self.labels = self.config = None
        if isinstance(model, (str, os.PathLike)) and not _is_folder(model):
            family, row = get_preset(str(model))
            get_task_class(task, family)
            self.name = f"preset {model}"
            self._preset = str(model)
            self.overrides = parse_overrides(family.config, overrides)
            self.config = row.config.replace(**self.overrides)
            return
        if isinstance(model, (str, os.PathLike)):
            self.name = f"folder {pathlib.Path(model).resolve()}"
            self._folder = model
            self.overrides = parse_overrides(read_stored(model).family.config, overrides)
            return
        if not hasattr(model, "config") or not hasattr(model, "task"):
            raise TypeError("`model` must be the name of a preset, a folder, or a kzoo model. "
                            f"Received: {type(model).__name__}.")
        if overrides:
            raise ValueError("`overrides` change the config of a preset or a folder; a model that is there keeps its "
                             "own. Give them to kzoo.create or kzoo.load, which make it.")
        if precision and model.dtype_policy.name != self._dtype:
            raise ValueError("`mixed_precision` is decided when a model is made: give a preset or a folder, or "
                             f"make the model with dtype={self._dtype!r}.")
        if model.task != task:
            raise ValueError(f"The model's task is {model.task!r}, not {task!r}.")
        self.name = f"object {type(model).__name__}"
        self._use(model)

    def open(self, labels, seed):
        """Load a folder. A head that it does not hold is drawn from `seed`.

        Args:
            labels: of the data, or None where the task has none. A model that knows them all keeps its own; one that
                does not gets a new head.
        """
        self.labels = labels
        if self._folder is not None:
            with seeded(seed):
                saved = saved_labels(self._folder, self.task) if labels is not None else None
                known = saved is not None and set(labels) <= set(saved)
                settings = {} if labels is None or known else {"labels": tuple(labels)}
                self._use(load(self._folder, task=self.task, dtype=self._dtype, **settings, **self.overrides))
        if self._model is not None and labels is not None:
            self.labels = tuple(self._model.labels)

    def _use(self, model):
        self._model, self.config, self.tokenizer = model, model.config, model.tokenizer

    def size(self, tokenizer, sequence_length):
        """The config for a tokenizer and a window length, filled into a preset or checked against a model."""
        if self._preset:
            changes = {"vocabulary_size": tokenizer.vocabulary_size, "max_sequence_length": sequence_length,
                       **special_ids(tokenizer)}
            self.config = self.config.replace(**{
                name: value for name, value in changes.items()
                if value is not None and name in self.config.field_names() and name not in self.overrides})
        check_vocabulary(self.config, tokenizer)
        longest = getattr(self.config, "max_sequence_length", None)
        if sequence_length and longest and sequence_length > longest:
            raise ValueError(f"`sequence_length` ({sequence_length}) must be at most the model's `max_sequence_length` "
                             f"({longest}).")
        return self.config

    def make(self, tokenizer, seed):
        """The model with its tokenizer; fresh weights and dropout are drawn from `seed`."""
        if self._preset:
            with seeded(seed):
                settings = {} if self.labels is None else {"labels": tuple(self.labels)}
                self._model = create(self._preset, self.task, tokenizer, self._dtype, **self.config.to_dict(),
                                     **settings)
        self._model.tokenizer = tokenizer
        return self._model


@dataclasses.dataclass(frozen=True)
class TokenizerSource:
    """A kind to train, or a tokenizer that is there.

    Attributes:
        kind, vocabulary_size: what to train; None if it is not trained.
        tokenizer: the one that is there, or None.
    """
    kind: str | None = None
    vocabulary_size: int | None = None
    tokenizer: Tokenizer | None = None

    @classmethod
    def read(cls, tokenizer, vocabulary_size, model):
        """From what was asked for: a kind, a path, a Tokenizer, or None for the model's own, else a kind for its task.

        Args:
            model: a ModelSource.
        """
        tokenizer = tokenizer or model.tokenizer or TOKENIZERS.get(model.task, "wordpiece")
        if isinstance(tokenizer, str) and tokenizer in KINDS:
            if vocabulary_size is not None and (type(vocabulary_size) is not int or vocabulary_size < 2):
                raise ValueError("`vocabulary_size` must be a whole number of at least 2. "
                                 f"Received: {vocabulary_size!r}.")
            return cls(tokenizer, vocabulary_size)
        if vocabulary_size is not None:
            raise ValueError("`vocabulary_size` is for a tokenizer that is trained on the data; this one has "
                             "its vocabulary. Leave it out.")
        if isinstance(tokenizer, (str, os.PathLike)):
            if not pathlib.Path(tokenizer).exists():
                raise FileNotFoundError(f"The tokenizer {tokenizer} is neither a file or folder nor one of: "
                                        f"{', '.join(KINDS)}.")
            tokenizer = load_tokenizer(tokenizer)
        return cls(tokenizer=tokenizer)

    def identity(self):
        """What a resumed run must give again."""
        if self.tokenizer is not None:
            return {"fingerprint": self.tokenizer.fingerprint}
        return {"kind": self.kind, "vocabulary_size": self.vocabulary_size}

    def make(self, data):
        """The tokenizer, trained on the data where it has to be: on all of it for characters, else on an even sample.

        Args:
            data: a `TextData` or `TableData`.
        """
        stride = 1 if self.kind == "character" else -(-data.characters // SAMPLE)
        return self.tokenizer or train_tokenizer(
            self.kind, itertools.islice(data.pieces(), 0, None, stride), self.vocabulary_size)


@contextlib.contextmanager
def seeded(seed):
    """Keras draws the seeds of initializers and dropout from Python's generator; the caller's own state comes back."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def saved_labels(folder, task):
    """The labels of the head that a folder holds for `task`, or None where it holds none, or is no model."""
    try:
        return read_stored(folder).settings_of(task).get("labels")
    except (OSError, ValueError, TypeError):
        return None  # `load` says what is wrong with it


def _is_folder(model):
    return pathlib.Path(model).is_dir()

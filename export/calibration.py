"""Texts as a model reads them, recorded: what the ranges of 8-bit arithmetic are taken from."""
import numpy as np

from kzoo.evaluation import evaluate
from kzoo.export.quality import cutting
from kzoo.export.signatures import settings_of, sizes_of
from kzoo.export.task_sessions import AnsweringSession

NUM_TEXTS = 100  # more change the ranges little


class _Recorder(AnsweringSession):
    """A session that answers zeros, and keeps some of what it was asked, every text with the same chance."""

    runtime = "keras"

    def __init__(self, count, **options):
        super().__init__(**options)
        self.texts, self._count, self._seen, self._random = [], count, 0, np.random.default_rng(0)

    def described(self):
        return None

    def _run(self, signature, arrays):
        mask = arrays["padding_mask"]
        for row, real in enumerate(mask):
            text = {name: array[row][real] for name, array in arrays.items()}
            self._seen += 1
            if len(self.texts) < self._count:
                self.texts.append(text)
            elif (place := int(self._random.integers(self._seen))) < self._count:
                self.texts[place] = text
        shape = {"batch_size": mask.shape[0], "sequence_length": mask.shape[1]}
        return {row.name: np.zeros([shape.get(size, size) for size in row.shape], row.dtype)
                for row in self.signatures[signature].outputs}


def record_texts(model, data, count=NUM_TEXTS):
    """Some of the texts of `data`, as the model would be asked to read them.

    Args:
        model: a task model that answers at once, with a tokenizer.
        data: file or files, as `kzoo.evaluation.evaluate` reads them for its task.
        count: how many to keep.

    Returns: list of dicts name of an input -> array (T,), without padding.
    Raises: as `evaluate`.
    """
    recorder = _Recorder(count, task=model.task, sizes=sizes_of(model), settings=settings_of(model),
                         tokenizer=model.tokenizer)
    evaluate(recorder, data, **cutting(model.task))
    return recorder.texts


def padded(text, length):
    """A text as the inputs (1, `length`) of a signature of fixed length, cut or filled up with zeros."""
    return {name: np.pad(values[:length], (0, max(length - len(values), 0)))[None] for name, values in text.items()}

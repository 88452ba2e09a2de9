"""The data files of a run: checked before any work, then encoded for the task."""
import numpy as np

from kzoo.errors import unknown
from kzoo.training.answer_spans import AnswerSpans
from kzoo.training.corpus import Corpus, encode_corpus
from kzoo.training.encode_rows import encode_table, split_rows
from kzoo.training.masked_corpus import MaskedCorpus
from kzoo.training.row_data import RowData
from kzoo.training.row_encoders import SequenceLabels, TextPairs, TokenLabels
from kzoo.training.run_folder import TOKENS
from kzoo.training.streams import Streams
from kzoo.training.tables import check_table, labels_of, read_table, sort_labels, texts_of
from kzoo.training.text_files import check_text, read_pieces

TEXTS = {"text-generation": Corpus, "fill-mask": MaskedCorpus}
TABLES = {"text-classification": SequenceLabels, "token-classification": TokenLabels, "translation": TextPairs,
          "summarization": TextPairs, "question-answering": AnswerSpans}
LABELLED = ("text-classification", "token-classification")
# Option -> the tasks that it means something for.
OPTIONS = {"class_weights": LABELLED, "truncate": ("text-classification", "translation", "summarization"),
           "whole_words": ("fill-mask",), "batch_tokens": tuple(TABLES), "length_buckets": tuple(TABLES),
           "sort_by_length": tuple(TABLES)}


def open_data(task, data, valid=None, columns=None, skip_bad_rows=False, options=None):
    """The files of a run, read through once.

    Args:
        task: what the model shall do.
        data, valid: file or files; the latter may be None.
        columns: of tables; see `kzoo.training.columns.parse_columns`.
        skip_bad_rows: leave bad rows out and say how many there were.
        options: `TrainOptions`, or None.

    Returns: TextData or TableData.
    Raises: ValueError, TypeError or OSError naming the file, the line and what was expected.
    """
    if task not in (*TEXTS, *TABLES):
        raise ValueError(unknown("task to train", task, (*TEXTS, *TABLES)) if task != "feature-extraction" else
                         "A feature extractor is not trained by itself. Train its backbone for another task, such as "
                         "fill-mask or text-classification, and load the run with task='feature-extraction'.")
    for name, tasks in OPTIONS.items():
        if options is not None and task not in tasks and getattr(options, name) != getattr(type(options)(), name):
            raise ValueError(f"`{name}` is for {', '.join(tasks)}; it means nothing for {task}.")
    if task in TABLES:
        return TableData(task, data, valid, columns, skip_bad_rows)
    for name, value in (("columns", columns), ("skip_bad_rows", skip_bad_rows)):
        if value:
            raise ValueError(f"`{name}` is for files with rows; {task} reads running text.")
    return TextData(task, data, valid)


class TextData:
    """Running text.

    Attributes:
        task: text-generation or fill-mask.
        labels: None; a text has none.
        characters: of the training text.
    """

    labels = None

    def __init__(self, task, data, valid):
        self.task = task
        self._text, self._valid = check_text(data), None if valid is None else check_text(valid)
        self.characters = self._text.characters

    def identity(self):
        """What a resumed run must give again."""
        def identify(text):
            return {"sha256": text.sha256, "characters": text.characters}

        return {"data": identify(self._text), "valid": self._valid and identify(self._valid)}

    def files(self):
        """The names of the files, for the record."""
        return _files(self._text, self._valid)

    def pieces(self):
        """The training text, for a tokenizer to learn from."""
        return read_pieces(self._text)

    def encode(self, folder, tokenizer, options, config, labels=None):
        """The task's `TaskData`, encoded into the run's folder where it is not there yet."""
        kind = Streams if hasattr(config, "memory_length") else TEXTS[self.task]
        return encode_corpus(kind, folder, tokenizer, self._text, self._valid, options, config)


class TableData:
    """Rows of examples.

    Attributes:
        task: what they are for.
        labels: names of the classes in the training data, in order; None where the task has none.
        characters: of all training texts together.

    Raises: ValueError for training data with fewer than two labels.
    """

    def __init__(self, task, data, valid, columns, skip_bad_rows):
        self.task = task
        self._skip = skip_bad_rows
        self._table = check_table(task, data, columns, skip_bad_rows, located=True)
        self._valid = None if valid is None else check_table(task, valid, columns, skip_bad_rows, located=True)
        self.labels = tuple(self._table.labels) if task in LABELLED else None
        self.characters = self._table.characters
        if self.labels is not None and len(self.labels) < 2:
            raise ValueError(f"{', '.join(map(str, self._table.paths))}: all {self._table.rows:,} rows have the label "
                             f"{self.labels[0]!r}. A classifier needs at least two labels; is it the right column?")

    def identity(self):
        """What a resumed run must give again."""
        def identify(table):
            return {"sha256": table.sha256, "rows": table.rows, "columns": repr(table.columns)}

        return {"data": identify(self._table), "valid": self._valid and identify(self._valid),
                "labels": self.labels and list(self.labels)}

    def files(self):
        """The names of the files, for the record."""
        return _files(self._table, self._valid)

    def pieces(self):
        """The training texts, for a tokenizer to learn from."""
        return (f"{text}\n" for example in read_table(self._table) for text in texts_of(example))

    def encode(self, folder, tokenizer, options, config, labels=None):
        """The task's `RowData`, encoded into the run's folder where it is not there yet.

        Args:
            labels: of the model, which may know more than the data has; None: those of the data.

        Raises: ValueError for a label that the model does not know, or a row that does not fit into it.
        """
        labels = self.labels if labels is None else labels
        for table in (self._table, self._valid):
            if table is not None and labels is not None:
                _check_known(table, labels)
        limit = options.sequence_length or getattr(config, "max_sequence_length", None)
        encoder = TABLES[self.task](tokenizer, options, config, limit, labels)
        if options.class_weights is not None:
            encoder.class_weights = class_weights(options.class_weights, self._table.labels, labels)
        folder = folder / TOKENS
        folder.mkdir(exist_ok=True)
        if self._valid is not None:
            held_out, source = None, self._valid
        else:
            held_out, source = split_rows(self._table, options.validation_split, options.seed), self._table
        chosen = None if held_out is None else ~held_out
        train, valid = encode_table(self._table, encoder, folder, "training", chosen, self._skip), None
        if held_out is None or held_out.any():
            valid = encode_table(source, encoder, folder, "validation", held_out, self._skip)
        return RowData(train, valid, options, encoder)


def class_weights(words, counts, labels):
    """float32 (N,), the weight of each label.

    Args:
        words: "balanced", which is rows / (N * rows of the label), or "label=weight,..."; others have 1.
        counts: label -> number of rows (or words) in the training data.
        labels: the N labels, in order.
    """
    if words == "balanced":
        mean = sum(counts.values()) / len(counts)
        return np.array([mean / counts[label] if label in counts else 1 for label in labels], "float32")
    weights = dict.fromkeys(labels, 1.0)
    for part in words.split(","):
        label, _, weight = (piece.strip() for piece in part.rpartition("="))
        if label not in weights:
            raise ValueError(unknown("label in `class_weights`", label, labels))
        try:
            weights[label] = float(weight)
        except ValueError:
            weights[label] = -1.0
        if not 0 <= weights[label] < np.inf:
            raise ValueError("`class_weights` must be \"balanced\" or \"label=weight,...\" with weights of at least 0. "
                             f"Received: {part!r}.")
    return np.array([weights[label] for label in labels], "float32")


def _check_known(table, labels):
    strange = sort_labels(set(table.labels) - set(labels))
    if strange:
        place = next(example.place for example in read_table(table) if strange[0] in labels_of(example))
        raise ValueError(f"{place}: the label {strange[0]!r} is none of those that the model learns "
                         f"({', '.join(labels)[:200]}).")


def _files(data, valid):
    return {"data": list(map(str, data.paths)), "valid": valid and list(map(str, valid.paths))}

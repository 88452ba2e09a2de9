"""Examples out of data files: texts with labels, sources with targets, tagged words, questions with answers.

`read_examples` gives them for each task, with the place each stands at. Files are checked in one pass and then read as
often as needed, row by row.
"""
import collections
import dataclasses
import hashlib
from typing import NamedTuple

from kzoo.errors import unknown
from kzoo.training.columns import has_names, parse_columns
from kzoo.training.faults import Faults
from kzoo.training.row_files import (
    TABLES,
    Place,
    parallel_rows,
    question_rows,
    table_rows,
    tagged_rows,
)
from kzoo.training.text_files import as_paths, file_kind


class LabelledText(NamedTuple):
    """A row of text-classification."""
    text: str
    label: str
    place: Place


class TextPair(NamedTuple):
    """A row of translation or summarization; `references` are all good targets, the first is `target`."""
    source: str
    target: str
    references: tuple
    place: Place


class TaggedWords(NamedTuple):
    """A sentence of token-classification: as many tags as words."""
    words: tuple
    tags: tuple
    place: Place


class Question(NamedTuple):
    """A question about a context.

    `answers` are all good ones; `answer` is the first that stands in the context, at character `start` (-1: none does).
    """
    id: str
    question: str
    context: str
    answers: tuple
    answer: str
    start: int
    place: Place


# Task -> what a row gives, and which files have such rows.
ROLES = {"text-classification": ("text", "label"), "translation": ("source", "target"),
         "summarization": ("source", "target"), "token-classification": ("words", "tags"), "question-answering": ()}
FILES = {"text-classification": "a .tsv, .csv or .jsonl file",
         "question-answering": "a SQuAD file (.json, version 1.1)",
         "translation": "a .tsv, .csv or .jsonl file, or two parallel texts",
         "summarization": "a .tsv, .csv or .jsonl file, or two parallel texts",
         "token-classification": "a text file with a word and its tag a line, or a .jsonl file"}


@dataclasses.dataclass(frozen=True)
class Table:
    """Data files that were read through once and whose good rows are known.

    Attributes:
        task: what the rows are for.
        paths: the files, in order; two parallel texts count as one table.
        columns: as `parse_columns` gives them, or None.
        rows: number of good rows.
        characters: of all their texts together.
        labels: label -> how many rows (or words) have it, in the order `sort_labels` gives; empty for other tasks.
        sha256: over the unpacked bytes of all files.
        located: whether rows without an answer that stands in the context count as bad.
        skipped: number of bad rows, which are left out.
    """
    task: str
    paths: tuple
    columns: dict | None
    rows: int
    characters: int
    labels: dict
    sha256: str
    located: bool = True
    skipped: int = 0


def read_examples(task, paths, columns=None, skip_bad_rows=False, located=False):
    """The examples of data files for a task.

    Args, Raises: as `check_table`.

    Returns: iterator of LabelledText, TextPair, TaggedWords or Question.
    """
    return read_table(check_table(task, paths, columns, skip_bad_rows, located))


def check_table(task, paths, columns=None, skip_bad_rows=False, located=False):
    """Read data files once, to know that all rows can be used.

    Args:
        task: one of `ROLES`.
        paths: one file or several, one after the other; two that are no tables are parallel texts. `.gz` and `.xz` are
            unpacked.
        columns: which columns to take, as `parse_columns` reads them.
        skip_bad_rows: leave bad rows out and say how many there were, instead of refusing them.
        located: a question must have an answer that stands in its context, as training needs it.

    Returns: Table.
    Raises: ValueError or OSError naming the file and, for rows, the line and what was expected.
    """
    if task not in ROLES:
        raise ValueError(unknown("task with tables", task, ROLES))
    paths = as_paths(paths)
    columns = parse_columns(columns, ROLES[task])
    _check_kinds(task, paths)
    digest, faults, labels, rows, characters = hashlib.sha256(), Faults(skip_bad_rows), collections.Counter(), 0, 0
    first_label = None
    for example, place, fault in _examples(task, paths, columns, located, digest):
        if fault:
            faults.add(place, fault)
            continue
        rows += 1
        characters += sum(map(len, texts_of(example)))
        found = labels_of(example)
        labels.update(found)
        first_label = first_label or (place, found)
    faults.settle(rows)
    if not rows:
        raise ValueError(f"{paths[0]} is empty. Give {FILES[task]}.")
    if task == "text-classification" and file_kind(paths[0]) != ".jsonl":
        _suspect_header(columns, *first_label, labels)
    return Table(task, paths, columns, rows, characters, {label: labels[label] for label in sort_labels(labels)},
                 digest.hexdigest(), located, faults.count)


def read_table(table):
    """The good rows of a Table, as examples."""
    return (example for example, _, fault in _examples(table.task, table.paths, table.columns, table.located)
            if not fault)


def texts_of(example):
    """The texts of an example: what a tokenizer has to know."""
    if isinstance(example, LabelledText):
        return (example.text,)
    if isinstance(example, TextPair):
        return example.source, example.target
    return (" ".join(example.words),) if isinstance(example, TaggedWords) else (example.question, example.context)


def labels_of(example):
    """The labels of an example: none, one, or one a word."""
    if isinstance(example, LabelledText):
        return (example.label,)
    return example.tags if isinstance(example, TaggedWords) else ()


def sort_labels(labels):
    """Labels in the order a model numbers them: by value where all are whole numbers, else by spelling."""
    return sorted(labels, key=(lambda label: (int(label), label)) if all(map(_is_whole, labels)) else None)


def _check_kinds(task, paths):
    kinds = [file_kind(path) for path in paths]
    if task == "question-answering":
        wrong = next((path for path, kind in zip(paths, kinds, strict=True) if kind != ".json"), None)
    elif task == "token-classification":
        wrong = next((path for path, kind in zip(paths, kinds, strict=True) if kind in (".csv", ".json")), None)
    elif task == "text-classification":
        wrong = next((path for path, kind in zip(paths, kinds, strict=True) if kind not in TABLES), None)
    else:
        tables = [kind in TABLES for kind in kinds]
        if not any(tables) and len(paths) != 2:
            raise ValueError(f"Parallel texts are two files, source and target; received {len(paths)}: "
                             f"{', '.join(map(str, paths))}. Give {FILES[task]}.")
        wrong = paths[tables.index(False)] if any(tables) and not all(tables) else None
    if wrong is not None:
        raise ValueError(f"{wrong} does not fit {task}. Give {FILES[task]}; each may be packed (.gz, .xz).")


def _examples(task, paths, columns, located, digest=None):
    """(example or None, place, fault or "") of every row."""
    make = {"text-classification": _labelled, "token-classification": _tagged, "question-answering": _questioned}
    for row in _rows(task, paths, columns, digest):
        if row.fault:
            yield None, row.place, row.fault
            continue
        example, fault = make.get(task, _paired)(row.values, row.place)
        if not fault and located and task == "question-answering" and example.start < 0:
            fault = f"expected an answer that stands in the context, and {example.answers[0][:60]!r} does not"
        yield example, row.place, fault


def _rows(task, paths, columns, digest):
    if task in ("translation", "summarization") and file_kind(paths[0]) not in TABLES:
        yield from parallel_rows(paths, ROLES[task], digest)
        return
    for path in paths:
        if task == "question-answering":
            yield from question_rows(path, digest)
        elif task == "token-classification" and file_kind(path) != ".jsonl":
            yield from tagged_rows(path, _positions(path, columns), digest)
        else:
            yield from table_rows(path, ROLES[task], columns, digest)


def _positions(path, columns):
    if has_names(columns) or any(len(chosen) > 1 for chosen in (columns or {}).values()):
        raise ValueError(f"{path} has no header: `columns` must give a position from 1 for words and for tags.")
    return columns


def _labelled(values, place):
    text, label = _joined(values["text"]), values["label"]
    if not text:
        return None, "the text is empty"
    if not isinstance(label, str) or not label:
        return None, f"expected one label and found {label!r}" if label else "the label is empty"
    return LabelledText(text, label, place), ""


def _paired(values, place):
    source, target = _joined(values["source"]), values["target"]
    references = tuple(target) if isinstance(target, list) else (target,)
    if not source:
        return None, "the source is empty"
    if not references or not all(references):
        return None, "the target is empty"
    return TextPair(source, references[0], references, place), ""


def _tagged(values, place):
    words, tags = values["words"], values["tags"]
    if not isinstance(words, list) or not isinstance(tags, list):
        return None, "expected a list of words and a list of tags"
    if len(words) != len(tags):
        return None, f"expected a tag for each word and found {len(words)} words and {len(tags)} tags"
    if not words or not all(words) or not all(tags):
        return None, "a word or a tag is empty" if words else "the sentence is empty"
    return TaggedWords(tuple(words), tuple(tags), place), ""


def _questioned(values, place):
    context, answers = values["context"], values["answers"]
    for answer, start in zip(answers, values["starts"], strict=True):
        # Some files have offsets of other encodings, or of the first place that looks alike: the text decides.
        if start < 0 or context[start:start + len(answer)] != answer:
            start = context.find(answer)
        if start >= 0:
            return Question(values["id"], values["question"], context, tuple(answers), answer, start, place), ""
    return Question(values["id"], values["question"], context, tuple(answers), answers[0], -1, place), ""


def _joined(value):
    return " ".join(value).strip() if isinstance(value, list) else value


def _is_whole(label):
    return label.lstrip("-").isdecimal()


def _suspect_header(columns, place, found, labels):
    """Refuse a header whose words are not those of the roles: it would become an example with a label of its own."""
    others = [count for label, count in labels.items() if label != found[0]]
    if not has_names(columns) and place.line == 1 and labels[found[0]] == 1 and len(others) > 1 and min(others) > 1:
        raise ValueError(f"{place} looks like a header: its label {found[0]!r} stands in no other row. Name the "
                         "columns with `columns` (--columns), for example text=sentence,label=class.")

"""Metrics of tasks that answer text: the model answers every row, a library compares.

Each function takes a model or an open session, the data files and keyword options, and is a row of
`kzoo.evaluation.TASKS`.
"""
import itertools

import numpy as np

from kzoo.evaluation.language_modeling import check_tail
from kzoo.evaluation.scores import (
    OUTSIDE,
    label_scores,
    library,
    summary_scores,
    tag_scores,
    translation_scores,
)
from kzoo.evaluation.squad import answer_scores
from kzoo.training.progress import Progress
from kzoo.training.tables import read_examples

BATCH = 32
GENERATING_BATCH = 64  # a step of generation costs little more for many rows than for one


def measure_labels(model, data, *, tail=1.0, batch_size=BATCH, columns=None, truncate=False, skip_bad_rows=False):
    """Accuracy, macro F1 and Matthews' correlation of predicted labels; see `label_scores`.

    Args:
        data: .tsv, .csv or .jsonl files with texts and labels.
        tail: share of the rows, from their end, that is looked at.
        batch_size: texts at a time.
        columns: which columns to take, as for `kzoo.train`.
        truncate: cut texts that are longer than the model; otherwise they are an error.
        skip_bad_rows: leave out rows that do not fit, and say how many there were; otherwise they are an error.

    Raises: ValueError naming the line of a label that the model does not have.
    """
    library("sklearn.metrics")  # said before the work, not after it
    rows = read_rows("text-classification", data, columns, tail, skip_bad_rows)
    check_labels(model, ((row.label, row.place) for row in rows))
    answers = answer(model, [row.text for row in rows], batch_size, truncate=truncate)
    return label_scores([row.label for row in rows], [each["label"] for each in answers])


def measure_features(model, data, *, tail=1.0, batch_size=BATCH, columns=None, truncate=False, skip_bad_rows=False):
    """How well features part labelled texts: each text gets the label of the nearest other one, by cosine.

    Args, Returns, Raises: as `measure_labels`.
    """
    neighbors = library("sklearn.neighbors")
    rows = read_rows("text-classification", data, columns, tail, skip_bad_rows)
    if len(rows) < 2:
        raise ValueError(f"{rows[0].place} is the only row. Give two texts at least: each is compared with the others.")
    features = np.stack(answer(model, [row.text for row in rows], batch_size, truncate=truncate))  # (N, E)
    nearest = neighbors.NearestNeighbors(n_neighbors=1, metric="cosine").fit(features).kneighbors(return_distance=False)
    labels = [row.label for row in rows]
    return label_scores(labels, [labels[index] for index in nearest[:, 0]])


def measure_tags(model, data, *, tail=1.0, batch_size=BATCH, columns=None, skip_bad_rows=False):
    """Precision, recall and F1 of spans or tags; see `tag_scores`.

    Args:
        data: text files with a word and its tag a line, or .jsonl files with lists of both.
        tail, batch_size, columns, skip_bad_rows: as for `measure_labels`, of sentences.

    Raises: ValueError naming the line of a sentence with a tag that the model does not have.
    """
    library("seqeval.metrics")
    rows = read_rows("token-classification", data, columns, tail, skip_bad_rows)
    check_labels(model, ((tag, row.place) for row in rows for tag in row.tags))
    answers = answer(model, [" ".join(row.words) for row in rows], batch_size, pretokenized=True)
    return tag_scores([list(row.tags) for row in rows],
                      [word_tags(row.words, found) for row, found in zip(rows, answers, strict=True)])


def measure_answers(model, data, *, tail=1.0, batch_size=BATCH, skip_bad_rows=False):
    """SQuAD's exact match and F1; see `answer_scores`.

    Args:
        data: SQuAD files (version 1.1).
        tail, batch_size, skip_bad_rows: as for `measure_labels`, of questions.
    """
    rows = read_rows("question-answering", data, None, tail, skip_bad_rows)
    answers = answer(model, [{"question": row.question, "context": row.context} for row in rows], batch_size,
                     length=lambda row: len(row["context"]))
    return answer_scores([row.answers for row in rows], [each["answer"] for each in answers])


def measure_translations(model, data, *, tail=1.0, batch_size=GENERATING_BATCH, columns=None, bpe_marks=False,
                         skip_bad_rows=False, truncate=False, **options):
    """BLEU, chrF, BLEU of tokenised text, and exact matches; see `translation_scores`.

    Args:
        data: two parallel texts, or .tsv, .csv or .jsonl files with sources and targets.
        tail, batch_size, columns, truncate, skip_bad_rows: as for `measure_labels`, of sources.
        bpe_marks: join pieces of words that are marked with "@@ " before scoring, in answers and references.
        options: how answers are generated: fields of `GenerationOptions`.
    """
    library("sacrebleu")
    rows = read_rows("translation", data, columns, tail, skip_bad_rows)
    answers = answer(model, [row.source for row in rows], batch_size, truncate=truncate, **options)
    return translation_scores([row.references for row in rows], answers, bpe_marks)


def measure_summaries(model, data, *, tail=1.0, batch_size=GENERATING_BATCH, columns=None, skip_bad_rows=False,
                      truncate=False, **options):
    """ROUGE-1, ROUGE-2 and ROUGE-L; see `summary_scores`. Args: as `measure_translations`."""
    library("rouge_score.rouge_scorer")
    rows = read_rows("summarization", data, columns, tail, skip_bad_rows)
    answers = answer(model, [row.source for row in rows], batch_size, truncate=truncate, **options)
    return summary_scores([row.references for row in rows], answers)


def read_rows(task, data, columns=None, tail=1.0, skip_bad_rows=False):
    """The examples of `data`, as a list; of `tail` below 1 the last ones."""
    check_tail(tail)
    rows = list(read_examples(task, data, columns, skip_bad_rows=skip_bad_rows))
    kept = rows[int(len(rows) * (1 - tail)):]
    if not kept:
        raise ValueError(f"`tail` {tail} of {len(rows):,} rows is none.")
    return kept


def answer(model, inputs, batch_size, length=len, **options):
    """What the model says to each input, in their order.

    Args:
        model: a task model or a session: a function of a list.
        inputs: list of texts or dicts.
        batch_size: inputs at a time; those of about one length go together, so that little is padding.
        length: of an input.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size!r}.")
    order = sorted(range(len(inputs)), key=lambda index: -length(inputs[index]))  # what takes most memory comes first
    answers = [None] * len(inputs)
    with Progress("evaluating", len(inputs), "rows") as progress:
        for first in range(0, len(order), batch_size):
            batch = order[first:first + batch_size]
            for index, found in zip(batch, model([inputs[index] for index in batch], **options), strict=True):
                answers[index] = found
            progress.update(first + len(batch))
    return answers


def check_labels(model, labels):
    """Refuse data with a label that the model cannot predict.

    Args:
        labels: (label, place in the data) of every row.
    """
    known = set(model.labels)
    for label, place in labels:
        if label not in known:
            named = ", ".join(map(repr, itertools.islice(model.labels, 20)))
            raise ValueError(f"{place}: {label!r} is none of the labels that the model was trained with: {named}"
                             f"{', ...' * (len(known) > 20)}.")


def word_tags(words, found):
    """The tag of every word, from what a model says of the words joined by blanks.

    Args:
        words: of a text.
        found: list of {"label", "start"}, one a word that gives tokens.

    Returns: list of str, "O" for a word that gives none.
    """
    labels = {each["start"]: each["label"] for each in found}
    starts = itertools.accumulate((len(word) + 1 for word in words[:-1]), initial=0)
    return [labels.get(start, OUTSIDE) for start in starts]

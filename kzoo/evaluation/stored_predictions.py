"""Scores of predictions that lie in a file, whoever made them: no model is needed."""
import json
import warnings

from kzoo.errors import unknown
from kzoo.evaluation.answering import read_rows
from kzoo.evaluation.scores import label_scores, summary_scores, translation_scores
from kzoo.evaluation.squad import answer_scores
from kzoo.training.text_files import read_lines

TASKS = ("question-answering", "text-classification", "translation", "summarization")


def evaluate_predictions(predictions, data, task=None, columns=None, bpe_marks=False):
    """Measure stored predictions on the data that they are of.

    Args:
        predictions: file (.gz and .xz too). Of question-answering a JSON object that maps the ids of questions to
            answers, as the SQuAD leaderboard takes it; of the other tasks a text or a label a line, in the order of
            the data.
        data: file or files with the right answers, as for `kzoo.evaluate`.
        task: one of `TASKS`; None means question-answering.
        columns: which columns of the data to take, as for `kzoo.train`.
        bpe_marks: of translations, join pieces of words that are marked with "@@ " first.

    Returns: dict of plain numbers, as `kzoo.evaluate` gives for the task.
    Raises: ValueError or OSError for files that cannot be used or do not fit each other. Warns where questions have
        no prediction; these count as wrong.
    """
    task = task or TASKS[0]
    if task not in TASKS:
        raise ValueError(unknown("task of stored predictions", task, TASKS))
    if bpe_marks and task != "translation":
        raise ValueError(f"`bpe_marks` is for translations, not for {task!r}.")
    rows = read_rows(task, data, columns)
    if task == "question-answering":
        answers = _answers(predictions, [row.id for row in rows])
        return answer_scores([row.answers for row in rows], answers)
    lines = [line.strip() for _, line in read_lines(predictions)]
    if len(lines) != len(rows):
        raise ValueError(f"{predictions} has {len(lines):,} lines and the data {len(rows):,} rows. Give one prediction "
                         "for each row.")
    if task == "text-classification":
        return label_scores([row.label for row in rows], lines)
    references = [row.references for row in rows]
    return translation_scores(references, lines, bpe_marks) if task == "translation" else \
        summary_scores(references, lines)


def _answers(path, ids):
    """The stored answer to each question of `ids`, None where there is none."""
    text = "\n".join(line for _, line in read_lines(path))
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Give an object that maps the ids of questions to "
                         "answers.") from None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError(f"{path} must map the ids of questions to answers: {{\"id\": \"answer\", ...}}.")
    missing = sum(name not in found for name in ids)
    if missing == len(ids):
        raise ValueError(f"{path} holds none of the {len(ids):,} questions of the data: other ids stand in it.")
    if missing:
        warnings.warn(f"{missing:,} of {len(ids):,} questions have no prediction in {path}; they count as wrong.",
                      stacklevel=3)
    return [found.get(name) for name in ids]

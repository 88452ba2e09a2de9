"""Rows out of files of several kinds, each with its place: tables, parallel texts, tagged words, questions.

A row that does not fit carries its fault instead of being left out; what to do about it is for the caller to say. A
file that cannot be understood at all is an error.
"""
import csv
import itertools
import json
from typing import NamedTuple

from kzoo.training.columns import find_columns
from kzoo.training.text_files import file_kind, read_lines

TABLES = (".tsv", ".csv", ".jsonl")


class Place(NamedTuple):
    """Where a row stands: a file and a line from 1, or the name of the row where lines say nothing."""
    path: object
    line: int | None
    name: str = ""

    def __str__(self):
        return f"{self.path}, line {self.line}" if self.name == "" else f"{self.path}, {self.name}"


class Row(NamedTuple):
    """One row.

    Attributes:
        place: Place.
        values: role -> str or list of str; empty where there is a fault.
        fault: what was expected and what was found; "" in a good row.
    """
    place: Place
    values: dict
    fault: str = ""


def table_rows(path, roles, columns, digest=None):
    """Rows of a .tsv, .csv or .jsonl file.

    Args:
        path: the file.
        roles: what each row must give, for example ("text", "label").
        columns: role -> tuple of column names or positions from 1, several are joined with a blank; or None: the
            columns are called as the roles are, or the file has no header and one column a role, in this order.
        digest: fed the bytes of the file.

    Yields: Row.
    Raises: ValueError naming the file if its columns cannot be found.
    """
    lines = read_lines(path, digest)
    kind = file_kind(path)
    if kind == ".jsonl":
        return _json_rows(path, lines, roles, columns)
    cells = _csv_cells(lines) if kind == ".csv" else ((number, line.split("\t"), "") for number, line in lines)
    return _cell_rows(path, _without_trailing_blanks(cells), roles, columns)


def parallel_rows(paths, roles, digest=None):
    """Rows of two texts, line by line: `roles` are what the first and the second give.

    Raises: ValueError naming both files and their numbers of lines where these differ.
    """
    sides = [_stripped(read_lines(path, digest)) for path in paths]
    counts = [0, 0]
    for pair in itertools.zip_longest(*sides):
        counts = [count + (line is not None) for count, line in zip(counts, pair, strict=True)]
        if None in pair:
            continue  # count the rest, to say by how much they differ
        line = pair[0][0]
        yield Row(Place(paths[0], line), {role: text for role, (_, text) in zip(roles, pair, strict=True)})
    if counts[0] != counts[1]:
        raise ValueError(f"{paths[0]} has {counts[0]:,} lines and {paths[1]} has {counts[1]:,}. Parallel texts must "
                         "have one line for each line of the other.")


def tagged_rows(path, columns, digest=None):
    """Sentences of a file with a word and its tag a line, and an empty line after each sentence (CoNLL).

    Args:
        columns: {"words": (position,), "tags": (position,)} from 1, or None where a line holds just these two.

    Yields: Row with `words` and `tags`, lists of str; its place is the sentence's first line, or that of the fault.
    """
    words, tags, start, fault = [], [], None, None
    for number, line in itertools.chain(read_lines(path, digest), [(None, "")]):
        if not line.strip():
            if fault is not None:
                yield fault
            elif words:
                yield Row(Place(path, start), {"words": words, "tags": tags})
            words, tags, start, fault = [], [], None, None
            continue
        start = start or number
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        word, tag, wrong = _word_and_tag(cells, columns)
        if wrong and fault is None:
            fault = Row(Place(path, number), {}, wrong)
        words.append(word)
        tags.append(tag)


def question_rows(path, digest=None):
    """Rows of a SQuAD v1.1 file: `id`, `question`, `context`, `answers` and `starts` (lists of the same length)."""
    text = "\n".join(line for _, line in read_lines(path, digest))
    try:
        articles = json.loads(text)["data"]
        paragraphs = [(f"data[{i}].paragraphs[{j}]", paragraph) for i, article in enumerate(articles)
                      for j, paragraph in enumerate(article["paragraphs"])]
        listed = [(f"{where}.qas[{k}]", paragraph["context"], question) for where, paragraph in paragraphs
                  for k, question in enumerate(paragraph["qas"])]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Give a SQuAD file (version 1.1).") from None
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path} is no SQuAD file (version 1.1), whose form is {{'data': [{{'paragraphs': "
                         f"[{{'context', 'qas'}}]}}]}} ({type(error).__name__}: {error}).") from None
    for where, context, question in listed:
        values, fault = _question(context, question)
        name = f"{where} ({question['id']!r})" if isinstance(question, dict) and "id" in question else where
        yield Row(Place(path, None, name), values, fault)


def _cell_rows(path, rows, roles, columns):
    places = width = first = None
    for number, cells, fault in rows:
        if places is None:
            if fault:
                raise ValueError(f"{path}, line {number}: {fault}.")
            places, has_header = find_columns(path, cells, roles, columns)
            width, first = len(cells), number
            if has_header:
                continue
        if not fault and cells in ([], [""]):
            fault = "expected a row and found an empty line"
        if not fault and len(cells) != width:
            fault = f"expected {width} columns, as in line {first}, and found {len(cells)}"
        values = {} if fault else {role: " ".join(cells[place].strip() for place in chosen)
                                   for role, chosen in places.items()}
        yield Row(Place(path, number), values, fault)


def _csv_cells(lines):
    """(first line, cells, fault) of each record; a quoted cell may go on over several lines."""
    reader = csv.reader((f"{line}\n" for _, line in lines), strict=True)
    while True:
        start = reader.line_num + 1
        try:
            yield start, next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            yield start, [], f"expected a row of CSV and found another form ({error})"


def _without_trailing_blanks(rows):
    """Rows without empty ones at the end of the file, which editors leave there."""
    blanks = []
    for row in rows:
        if not row[2] and row[1] in ([], [""]):
            blanks.append(row)
            continue
        yield from blanks
        blanks = []
        yield row


def _json_rows(path, lines, roles, columns):
    columns = columns or {role: (role,) for role in roles}
    for role, chosen in columns.items():
        for name in chosen:
            if not isinstance(name, str):
                raise ValueError(f"{path} has columns with names, and `columns` asks for number {name} as {role!r}. "
                                 "Give the name.")
    rows = ((number, [line.strip()], "") for number, line in lines)
    for number, (line, *_), _ in _without_trailing_blanks(rows):
        values, fault = _json_row(line, columns)
        yield Row(Place(path, number), values, fault)


def _json_row(line, columns):
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {}, f"expected a JSON object and found something else ({error})"
    if not isinstance(found, dict):
        return {}, f"expected a JSON object and found: {line[:60]}"
    values = {}
    for role, chosen in columns.items():
        parts = []
        for name in chosen:
            if name not in found:
                return {}, f"expected {name!r} and found only: {', '.join(found)[:200] or 'nothing'}"
            value = _as_text(found[name])
            if value is None:
                return {}, (f"expected {name!r} to be a text, a whole number or a list of them and found: "
                            f"{json.dumps(found[name])[:60]}")
            parts.append(value)
        values[role] = parts[0] if len(parts) == 1 else " ".join(
            " ".join(part) if isinstance(part, list) else part for part in parts)
    return values, ""


def _as_text(value):
    """A str, or a list of them, of what JSON gives; None for other things."""
    if isinstance(value, list):
        items = [None if isinstance(item, list) else _as_text(item) for item in value]
        return None if None in items else items
    if isinstance(value, str):
        return value.strip()
    return json.dumps(value) if isinstance(value, int) else None  # true and false, too


def _word_and_tag(cells, columns):
    """(word, tag, fault) of one line."""
    if columns is None:
        if len(cells) != 2 or not all(cells):
            return "", "", (f"expected a word and its tag, and found {len(cells)} columns; `columns` (--columns) says "
                            "which to take, for example words=1,tags=4")
        return *cells, ""
    places = [columns[role][0] for role in ("words", "tags")]
    if max(places) > len(cells) or not all(cells[place - 1] for place in places):
        return "", "", f"expected a word and its tag in columns {places[0]} and {places[1]} of {len(cells)}"
    return *(cells[place - 1] for place in places), ""


def _question(context, question):
    """(values, fault) of one entry of `qas`."""
    try:
        answers = [(answer["text"], answer.get("answer_start")) for answer in question["answers"]]
        texts = [context, question["question"], *(text for text, _ in answers)]
    except (KeyError, TypeError, AttributeError) as error:
        return {}, (f"expected 'id', 'question' and 'answers' with their 'text', and found another form "
                    f"({type(error).__name__}: {error})")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        return {}, "expected texts for context, question and answers, and found an empty one or none"
    if not answers:
        return {}, "expected an answer and found none; questions that cannot be answered (SQuAD 2) are not served"
    starts = [start if type(start) is int else -1 for _, start in answers]
    return {"id": str(question.get("id", "")), "question": question["question"], "context": context,
            "answers": [text for text, _ in answers], "starts": starts}, ""


def _stripped(lines):
    return ((number, line.strip()) for number, line in lines)


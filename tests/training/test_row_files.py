"""Rows of every kind of file: what they give, where they stand, and the fault of each bad one."""
import gzip
import json

import pytest

from kzoo.training.row_files import parallel_rows, question_rows, table_rows, tagged_rows

ROLES = ("text", "label")
# Without the time of packing, which would give the test another name in every process that collects it.
GZIPPED = gzip.compress(b"good\t1\nba\"d\t0\n", mtime=0)


@pytest.fixture
def write(tmp_path):
    def write(text, name="data.tsv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path
    return write


def read(path, columns=None, roles=ROLES):
    """[(line, values or fault)]"""
    return [(row.place.line, row.fault or row.values) for row in table_rows(path, roles, columns)]


def pair(text, label):
    return {"text": text, "label": label}


@pytest.mark.parametrize("name, text", [
    ("data.tsv", "good \t1\nba\"d\t0\n"), ("data.tsv", "text\tlabel\ngood\t1\nba\"d\t0"),
    ("data.tsv", "id\tLabel\tText\n7\t1\tgood\n8\t0\tba\"d\n\n\n"), ("data.csv", 'good,1\n"ba""d",0\r\n'),
    ("data.csv", 'label,text\n1,good\n0,"ba""d"\n'), ("data.tsv.gz", GZIPPED),
    ("data.jsonl", '{"text": "good", "label": 1}\n{"label": "0", "text": "ba\\"d"}\n\n')])
def test_columns_are_found_by_their_names_or_their_order(write, name, text):
    assert [values for _, values in read(write(text, name))] == [pair("good", "1"), pair('ba"d', "0")]


@pytest.mark.parametrize("columns, expected", [
    ({"text": ("title",), "label": (1,)}, ("a", "3")),
    ({"text": ("title", "body"), "label": ("class",)}, ("a b c", "3"))])
def test_columns_are_chosen_and_joined(write, columns, expected):
    path = write('class,title,body\n3,a,"b c"\n', "data.csv")
    assert read(path, columns) == [(2, pair(*expected))]


def test_positions_alone_mean_no_header(write):
    assert read(write("0\t7\t2\tbad film\n"), {"text": (4,), "label": (1,)}) == [(1, pair("bad film", "0"))]


def test_lines_are_those_of_the_file(write):
    """A quoted line end does not make the next row's number wrong."""
    assert read(write('text,label\n"two\nlines",a\nb,c\n', "data.csv")) == [
        (2, pair("two\nlines", "a")), (4, pair("b", "c"))]


@pytest.mark.parametrize("name, text, line, words", [
    ("data.tsv", "a\t1\nb\nc\t2\n", 2, "expected 2 columns, as in line 1, and found 1"),
    ("data.tsv", "a\t1\n\nc\t2\n", 2, "expected a row and found an empty line"),
    ("data.csv", 'a,1\n"b"x,2\nc,3\n', 2, "expected a row of CSV"),
    ("data.csv", 'a,1\n"b,2\nc,3\n', 2, "expected a row of CSV"),
    ("data.jsonl", '{"text": "a", "label": 1}\n[1]\n', 2, "expected a JSON object and found: [1]"),
    ("data.jsonl", '{"text": "a", "label": 1}\n\n{\n', 2, "expected a JSON object and found something else"),
    ("data.jsonl", '{"text": "a", "lable": 1}\n', 1, "expected 'label' and found only: text, lable"),
    ("data.jsonl", '{"text": "a", "label": 1.5}\n', 1, "expected 'label' to be a text, a whole number or a list of "
                                                       "them and found: 1.5")])
def test_a_bad_row_carries_its_fault(write, name, text, line, words):
    found = dict(read(write(text, name)))
    assert found[line].startswith(words)
    assert [number for number, values in found.items() if isinstance(values, str)][0] == line


@pytest.mark.parametrize("name, text, columns, words", [
    ("data.tsv", "sentence\tlabel\na\t1\n", None, r"line 1 looks like a header \(sentence, label\) without .* 'text'"),
    ("data.tsv", "0\t7\t2\tbad\n", None, r"line 1 has 4 columns and no header .* text=1,label=2"),
    ("data.tsv", "one\n", None, "line 1 has 1 column and"),
    ("data.csv", '"a\n', None, "line 1: expected a row of CSV"),
    ("data.tsv", "sentence\tlabel\n", {"text": ("sentense",), "label": (2,)}, "Did you mean 'sentence'.*It names: sen"),
    ("data.tsv", "a\tb\n", {"text": (3,), "label": (2,)}, "has 2 columns; .* asks for number 3 as 'text'"),
    ("data.jsonl", "{}\n", {"text": (3,), "label": (2,)}, "asks for number 3 as 'text'. Give the name")])
def test_a_file_whose_columns_cannot_be_found_is_refused(write, name, text, columns, words):
    with pytest.raises(ValueError, match=words):
        read(write(text, name), columns)


def test_parallel_texts_are_read_line_by_line(write):
    paths = [write("a b\n\nc\n", "data.en"), write("x\ny\nz", "data.de")]
    assert [(row.place.line, row.values) for row in parallel_rows(paths, ("source", "target"))] == [
        (1, {"source": "a b", "target": "x"}), (2, {"source": "", "target": "y"}), (3, {"source": "c", "target": "z"})]
    paths = [paths[0], write("x\n" * 5, "longer.de")]
    with pytest.raises(ValueError, match=r"data.en has 3 lines and .*longer.de has 5"):
        list(parallel_rows(paths, ("source", "target")))


@pytest.mark.parametrize("text, columns", [
    ("Ada\tB\nsang O\n\n\nwell\tO\n\n", None),
    ("Ada NN x B\nsang VB x O\n\nwell RB x O", {"words": (1,), "tags": (4,)})])
def test_tagged_words_end_with_an_empty_line(write, text, columns):
    rows = list(tagged_rows(write(text, "data.conll"), columns))
    assert [row.values for row in rows] == [{"words": ["Ada", "sang"], "tags": ["B", "O"]},
                                            {"words": ["well"], "tags": ["O"]}]
    assert [row.place.line for row in rows] == [1, text.count("\n", 0, text.index("well")) + 1]


def test_a_word_without_its_tag_spoils_its_sentence_only(write):
    rows = list(tagged_rows(write("a O\nb\nc\n\nd O\n", "data.txt"), None))
    assert rows[0].place.line == 2 and "a word and its tag, and found 1 columns" in rows[0].fault
    assert rows[1].values == {"words": ["d"], "tags": ["O"]}
    rows = list(tagged_rows(write("a x O\n\nb O\n", "data.txt"), {"words": (1,), "tags": (3,)}))
    assert not rows[0].fault and rows[1].fault == "expected a word and its tag in columns 1 and 3 of 2"


def squad(*questions, context="Ada sang."):
    return json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [
        {"context": context, "qas": list(questions)}]}]}, indent=1)


QUESTION = {"id": "q7", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}


def test_questions_of_a_squad_file(write):
    row, = question_rows(write(squad(QUESTION), "data.json"))
    assert row.values == {"id": "q7", "question": "Who?", "context": "Ada sang.", "answers": ["Ada"], "starts": [0]}
    assert str(row.place).endswith("data.json, data[0].paragraphs[0].qas[0] ('q7')")


@pytest.mark.parametrize("change, words", [
    ({"answers": []}, "expected an answer and found none"), ({"question": 7}, "expected texts"),
    ({"answers": [{"answer_start": 0}]}, "expected 'id', 'question' and 'answers'"),
    ({"answers": [{"text": " "}]}, "found an empty one")])
def test_a_bad_question_carries_its_fault(write, change, words):
    rows = list(question_rows(write(squad({**QUESTION, **change}, QUESTION), "data.json")))
    assert words in rows[0].fault and not rows[1].fault


@pytest.mark.parametrize("text, words", [('{"data": [', r"not valid JSON \(.*line 1"),
                                         ('{"rows": []}', "no SQuAD file"),
                                         ('{"data": [{"paragraphs": [{"qas": [1]}]}]}', "KeyError: 'context'")])
def test_a_file_of_another_form_is_refused(write, text, words):
    with pytest.raises(ValueError, match=words):
        list(question_rows(write(text, "data.json")))

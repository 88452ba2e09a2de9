"""Examples of every task: what is read, what is refused with its line, and what is skipped and told."""
import hashlib
import json

import pytest

from kzoo.training.tables import check_table, read_examples, read_table, sort_labels, texts_of


@pytest.fixture
def write(tmp_path):
    def write(text, name="data.tsv"):
        (tmp_path / name).write_text(text)
        return tmp_path / name
    return write


def test_labelled_texts(write):
    text = "good\tyes\nbad\tno\nfair\tyes\n"
    path = write(text)
    table = check_table("text-classification", path)
    assert (table.rows, table.characters, table.labels) == (3, 11, {"no": 1, "yes": 2})
    assert table.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert [(row.text, row.label, str(row.place)) for row in read_table(table)] == [
        (words, label, f"{path}, line {line}") for line, (words, label) in
        enumerate([("good", "yes"), ("bad", "no"), ("fair", "yes")], 1)]


def test_several_files_are_one_table(write):
    paths = [write("good\tyes\n", "a.tsv"), write("text,label\nbad,no\n", "b.csv")]
    assert [row.text for row in read_examples("text-classification", paths)] == ["good", "bad"]


def test_pairs_from_tables_and_from_parallel_texts(write):
    table = write("source,target\na,b\nc,d\n", "a.csv")
    parallel = [write("a\nc\n", "a.en"), write("b\nd\n", "a.de")]
    for task, paths in (("translation", table), ("summarization", parallel)):
        rows = list(read_examples(task, paths))
        assert [(row.source, row.target, row.references) for row in rows] == [("a", "b", ("b",)), ("c", "d", ("d",))]


def test_lists_are_sentences_in_a_source_and_choices_in_a_target(write):
    path = write(json.dumps({"body": ["One.", "Two."], "gold": ["short", "shorter"]}) + "\n", "a.jsonl")
    row, = read_examples("summarization", path, "source=body,target=gold")
    assert (row.source, row.target, row.references) == ("One. Two.", "short", ("short", "shorter"))


def test_tagged_words_of_both_kinds(write):
    lines = write("Ada B\nsang O\n", "a.conll")
    objects = write('{"words": ["Ada", "sang"], "tags": ["B", "O"]}\n', "a.jsonl")
    for path in (lines, objects):
        row, = read_examples("token-classification", path)
        assert (row.words, row.tags) == (("Ada", "sang"), ("B", "O"))
    assert check_table("token-classification", lines).labels == {"B": 1, "O": 1}


def squad(*answers, context="Ada sang. Ada left."):
    answers = [{"text": text, "answer_start": start} for text, start in answers]
    question = {"id": "q", "question": "Who?", "answers": answers}
    return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": [question]}]}]})


@pytest.mark.parametrize("answers, expected", [
    ([("Ada", 10)], ("Ada", 10)), ([("Ada", 3)], ("Ada", 0)), ([("Bob", 0), ("left", 2)], ("left", 14)),
    ([("Bob", 0)], ("Bob", -1))])
def test_an_answer_is_found_by_its_text_where_the_offset_does_not_fit(write, answers, expected):
    row, = read_examples("question-answering", write(squad(*answers), "a.json"))
    assert (row.answer, row.start) == expected
    assert row.answers == tuple(text for text, _ in answers)


def test_training_needs_an_answer_that_stands_in_the_context(write):
    path = write(squad(("Bob", 0)), "a.json")
    with pytest.raises(ValueError, match=r"qas\[0\] \('q'\): expected an answer that stands in the context, and 'Bob'"):
        check_table("question-answering", path, located=True)


@pytest.mark.parametrize("task, name, text, words", [
    ("text-classification", "a.tsv", "good\t1\n\t0\n", "a.tsv, line 2: the text is empty"),
    ("text-classification", "a.tsv", "good\t1\nbad\t\n", "line 2: the label is empty"),
    ("translation", "a.tsv", "a\tb\n \tc\n", "line 2: the source is empty"),
    ("translation", "a.tsv", "a\tb\nc\t\n", "line 2: the target is empty"),
    ("summarization", "a.jsonl", '{"source": "a", "target": []}\n', "line 1: the target is empty"),
    ("token-classification", "a.jsonl", '{"words": ["a", "b"], "tags": ["O"]}\n', "found 2 words and 1 tags"),
    ("token-classification", "a.jsonl", '{"words": "a b", "tags": ["O"]}\n', "expected a list of words"),
    ("token-classification", "a.jsonl", '{"words": [], "tags": []}\n', "the sentence is empty")])
def test_a_bad_row_is_refused_with_its_line(write, task, name, text, words):
    with pytest.raises(ValueError, match=words):
        check_table(task, write(text, name))


def test_bad_rows_are_counted_and_told(write, capsys):
    path = write("good\t1\nx\nbad\t0\n\t0\ny\nz\n")
    with pytest.raises(ValueError, match=r"line 2: .* 3 other rows are bad, too, the next: .*line 4.*--skip-bad-rows"):
        check_table("text-classification", path)
    assert capsys.readouterr().err == ""
    table = check_table("text-classification", path, skip_bad_rows=True)
    assert (table.rows, table.skipped) == (2, 4)
    told = capsys.readouterr().err
    assert told.startswith("Skipped 4 bad rows: ") and "line 2:" in told and told.endswith("found 1 (and 1 more).\n")
    assert [row.text for row in read_table(table)] == ["good", "bad"]


def test_nothing_but_bad_rows_is_refused_all_the_same(write):
    with pytest.raises(ValueError, match="1 other row is .* No row is left"):
        check_table("text-classification", write("\t1\n\t2\n"), skip_bad_rows=True)


def test_a_file_of_another_kind_is_not_read_to_its_end(write):
    with pytest.raises(ValueError, match="99 other or more rows are bad"):
        check_table("text-classification", write("a\t1\n" + "x\n" * 500))


@pytest.mark.parametrize("task, names, words", [
    ("text-classification", ["a.txt"], "a.txt does not fit text-classification. Give a .tsv, .csv or .jsonl file"),
    ("translation", ["a.en"], "Parallel texts are two files, source and target; received 1"),
    ("translation", ["a.en", "a.de", "a.fr"], "received 3"),
    ("translation", ["a.tsv", "a.de"], "a.de does not fit translation"),
    ("token-classification", ["a.csv"], "a.csv does not fit"),
    ("question-answering", ["a.jsonl"], "Give a SQuAD file"),
    ("fill-mask", ["a.txt"], "Unknown task with tables 'fill-mask'")])
def test_files_of_another_kind_are_refused(write, task, names, words):
    with pytest.raises(ValueError, match=words):
        check_table(task, [write("x\n", name) for name in names])


def test_an_empty_or_missing_file_is_refused(write, tmp_path):
    for text, name, task in (("", "a.tsv", "text-classification"), ("text\tlabel\n", "a.tsv", "text-classification"),
                             ("\n\n", "a.conll", "token-classification")):
        with pytest.raises(ValueError, match=f"{name} is empty"):
            check_table(task, write(text, name))
    with pytest.raises(FileNotFoundError, match="missing.tsv does not exist"):
        check_table("text-classification", tmp_path / "missing.tsv")


def test_a_header_of_other_words_is_not_taken_for_an_example(write):
    path = write("class,body\n" + "".join(f"text {i},{i % 2}\n" for i in range(8)), "a.csv")
    with pytest.raises(ValueError, match=r"line 1 looks like a header: its label 'body' stands in no other row"):
        check_table("text-classification", path)
    assert check_table("text-classification", path, "text=class,label=body").rows == 8


def test_labels_are_sorted_by_value_where_they_are_numbers():
    assert sort_labels(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert sort_labels(["10", "9", "x"]) == ["10", "9", "x"]


def test_a_tokenizer_sees_all_texts(write):
    row, = read_examples("translation", write("ab\tcde\n"))
    assert texts_of(row) == ("ab", "cde")
    assert check_table("translation", write("ab\tcde\n")).characters == 5


def test_real_files_are_read(shared):
    data = shared / "data"
    assert check_table("text-classification", data / "sst2" / "train.tsv").rows == 6920
    news = check_table("text-classification", data / "ag_news" / "train.sample20k.csv.gz",
                       "text=title+description,label=class_index")
    assert news.labels == {"1": 5000, "2": 5000, "3": 5000, "4": 5000}
    pairs = check_table("translation", [data / "multi30k" / "raw" / f"val.{side}.gz" for side in ("en", "de")])
    assert pairs.rows == 1014
    questions = check_table("question-answering", data / "squad-v1.1" / "xquad.en.json.gz")
    assert questions.rows == 1190

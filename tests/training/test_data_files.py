"""The files of a run: what each task reads, and weights of labels."""
import numpy as np
import pytest

from kzoo.training.data_files import class_weights, open_data
from kzoo.training.options import TrainOptions


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name
    return write


def test_a_table_knows_its_labels_and_its_texts(write):
    path = write("a.tsv", "good\tyes\nbad\tno\nfair\tyes\n")
    data = open_data("text-classification", path, path)
    assert data.labels == ("no", "yes") and data.characters == 11
    assert list(data.pieces()) == ["good\n", "bad\n", "fair\n"]
    assert data.files() == {"data": [str(path)], "valid": [str(path)]}
    assert data.identity()["labels"] == ["no", "yes"] and data.identity()["valid"]["rows"] == 3
    other = open_data("text-classification", path, None, "text=1,label=2").identity()
    assert other != data.identity() and other["valid"] is None


def test_pairs_give_both_sides_to_the_tokenizer(write):
    data = open_data("translation", [write("a.en", "one\ntwo\n"), write("a.de", "eins\nzwei\n")])
    assert data.labels is None and list(data.pieces()) == ["one\n", "eins\n", "two\n", "zwei\n"]


def test_running_text_has_no_rows(write):
    path = write("a.txt", "some text")
    data = open_data("fill-mask", path)
    assert data.labels is None and "".join(data.pieces()) == "some text" and data.files()["valid"] is None
    for option in ({"columns": "text=1"}, {"skip_bad_rows": True}):
        with pytest.raises(ValueError, match=f"`{next(iter(option))}` is for files with rows; fill-mask reads running"):
            open_data("fill-mask", path, **option)


@pytest.mark.parametrize("task, option, words", [
    ("fill-mask", {"sort_by_length": True}, "`sort_by_length` is for .*; it means nothing for fill-mask"),
    ("text-generation", {"batch_tokens": 9}, "`batch_tokens` is for text-classification, .* nothing for text-gen"),
    ("question-answering", {"truncate": "end"}, "`truncate` is for text-classification, translation, summarization"),
    ("translation", {"class_weights": "balanced"}, "`class_weights` is for text-classification, token-classification")])
def test_an_option_of_another_task_is_refused(task, option, words):
    with pytest.raises(ValueError, match=words):
        open_data(task, "missing", options=TrainOptions(**option))


def test_unknown_tasks_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'translation'"):
        open_data("translatoin", "missing")


def test_balanced_weights_give_every_label_the_same_part():
    counts, labels = {"a": 6, "b": 3, "c": 1}, ("a", "b", "c", "d")  # d is of the model, not of the data
    weights = class_weights("balanced", counts, labels)
    np.testing.assert_allclose(weights, [10 / 18, 10 / 9, 10 / 3, 1], rtol=1e-6)
    assert len({round(float(weight) * count, 5) for weight, count in zip(weights, counts.values(), strict=False)}) == 1
    np.testing.assert_array_equal(class_weights("c=2.5, a=0", counts, labels), np.array([0, 1, 2.5, 1], "float32"))
    np.testing.assert_array_equal(class_weights("a=b=2", {}, ("a=b",)), np.array([2], "float32"))

"""Answers of `kzoo run` as people read them."""
import numpy as np
import pytest

from kzoo.cli.answers import one_line, print_answers

SPANS = [{"label": "PER", "score": 0.98765, "text": "Anna", "start": 0, "end": 4},
         {"label": "LOC", "score": 0.5, "text": "Ulm", "start": 14, "end": 17}]
TOKENS = [{"token": "cat", "score": 0.75, "text": "a cat"}, {"token": "dog", "score": 0.25, "text": "a dog"}]


@pytest.mark.parametrize("found, line", [
    ("eine Katze", "eine Katze"),
    ({"label": "b", "score": 0.7, "scores": {"a": 0.1, "b": 0.7, "c": 0.2}}, "b 0.7000  (c 0.2000)  (a 0.1000)"),
    ({"answer": "Ulm", "score": 0.5, "start": 3, "end": 6}, "Ulm  0.5000  3-6"),
    (np.array([1, -0.5], "float32"), "1.0000 -0.5000"),
    (np.ones(9, "float32"), "1.0000 " * 8 + "... (9 numbers; --json prints all)"),
])
def test_short_answers_take_a_line(found, line):
    assert one_line(found) == line


def test_spans_are_a_table(capsys):
    print_answers(["Anna lives in Ulm"], [SPANS])
    assert capsys.readouterr().out.splitlines() == [
        "label   score  text  start  end", "PER    0.9877  Anna      0    4", "LOC       0.5  Ulm      14   17"]


def test_several_texts_stand_above_their_tables(capsys):
    print_answers(["one", "two"], [SPANS[:1], []])
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[3:]) == ("one", ["", "two", "(nothing found)"])


def test_tokens_for_a_mask_leave_out_the_text(capsys):
    print_answers(["a [MASK]"], [TOKENS])
    assert capsys.readouterr().out.splitlines() == ["token  score", "cat     0.75", "dog     0.25"]


def test_masks_are_numbered(capsys):
    print_answers(["[MASK] [MASK]"], [[TOKENS, TOKENS[:1]]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mask 1" and lines[4:] == ["mask 2", "token  score", "cat     0.75"]

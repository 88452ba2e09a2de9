"""From tagged pieces to words, and from words to entities with their characters."""
import pathlib

import pytest

from kzoo.tasks.entities import merge, words_between_blanks, words_of
from kzoo.tokenizers import Encoding, load_tokenizer, train_tokenizer

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "tokenizers"
NAMES = ("byte-bpe", "wordpiece", "sentencepiece-unigram", "sentencepiece-bpe", "character")


@pytest.fixture(scope="module", params=NAMES)
def tokenizer(request):
    if request.param == "character":
        return train_tokenizer("character", ["The keeper's naïve ships, in Köln 17."])
    return load_tokenizer(FIXTURES / request.param)


@pytest.mark.parametrize("text, expected", [
    ("The  keeper (naïve) of Köln, 17.", ["The", "keeper", "(", "naïve", ")", "of", "Köln", ",", "17", "."]),
    (" ships\n\tships ", ["ships", "ships"]),
    ("a-b", ["a", "-", "b"]),
    ("", []), ("  ", []),
])
def test_words_begin_at_spaces_and_at_signs(tokenizer, text, expected):
    encoding = tokenizer.encode_with_offsets(text)
    words = words_of(text, encoding)
    assert [text[word.start:word.end] for word in words] == expected
    for word in words:  # its first piece is the one that is asked for a label
        assert encoding.offsets[word.piece][0] == word.start
        assert all(end <= word.start for _, end in encoding.offsets[:word.piece])


def test_words_can_be_what_blanks_part(tokenizer):
    text = " The  keeper's ships, in\tKöln 17.\n"
    encoding = tokenizer.encode_with_offsets(text)
    words = words_between_blanks(text, encoding)
    assert [text[word.start:word.end] for word in words] == text.split() != [
        text[word.start:word.end] for word in words_of(text, encoding)]
    for word in words:
        assert encoding.offsets[word.piece][0] == word.start


def test_a_word_without_a_token_is_left_out():
    encoding = Encoding([3, 4], [(0, 1), (4, 5)], [0, 1])
    assert words_between_blanks("a b c", encoding) == [(0, 1, 0), (4, 5, 1)]


def tagged(*labels, text="ab cd ef gh ij"):
    return text, [(label, 0.5 + number / 10, 3 * number, 3 * number + 2) for number, label in enumerate(labels)]


SCHEME = ("O", "B-X", "I-X", "B-Y", "I-Y")


@pytest.mark.parametrize("labels, expected", [
    (("O", "B-X", "I-X", "O", "B-Y"), [("X", "cd ef"), ("Y", "ij")]),
    (("B-X", "B-X", "I-X"), [("X", "ab"), ("X", "cd ef")]),      # two entities side by side
    (("I-X", "I-X", "O"), [("X", "ab cd")]),                     # an end without a beginning begins
    (("B-X", "I-Y", "I-Y"), [("X", "ab"), ("Y", "cd ef")]),
    (("I-X", "O", "I-X"), [("X", "ab"), ("X", "ef")]),
    (("S-X", "B-Y", "E-Y", "U-X"), [("X", "ab"), ("Y", "cd ef"), ("X", "gh")]),  # IOBES and BILOU
    (("B-X", "E-X", "I-X", "S-X", "I-X"), [("X", "ab cd ef"), ("X", "gh ij")]),  # parts of words: "Köln-Deutz"
    (("O", "O"), []), ((), []),
])
def test_entities(labels, expected):
    text, words = tagged(*labels)
    found = merge(text, words, SCHEME)
    assert [(each["label"], each["text"]) for each in found] == expected
    for each in found:
        assert text[each["start"]:each["end"]] == each["text"]
        inside = [score for _, score, start, _ in words if each["start"] <= start < each["end"]]
        assert each["score"] == pytest.approx(sum(inside) / len(inside))


def test_labels_without_a_scheme_are_given_word_by_word():
    text, words = tagged("noun", "noun", "O")
    assert [(each["label"], each["text"], each["start"]) for each in merge(text, words, ("noun", "O", "x-y"))] == [
        ("noun", "ab", 0), ("noun", "cd", 3), ("O", "ef", 6)]

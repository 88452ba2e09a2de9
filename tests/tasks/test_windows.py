"""Windows over long texts: every token is in one, each overlaps the next, and one of them owns each token."""
import pathlib

import numpy as np
import pytest

from kzoo.tasks.windows import cut, owners, question_windows
from kzoo.tokenizers import load_tokenizer

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "tokenizers"


def test_windows_by_hand():
    assert cut(10, 4, 1) == [(0, 4), (3, 7), (6, 10)]
    assert cut(11, 4, 1) == [(0, 4), (3, 7), (6, 10), (7, 11)]  # the last one is moved back rather than short
    assert cut(4, 4, 3) == cut(4, 9) == [(0, 4)] and cut(0, 4) == []
    assert cut(9, 4) == cut(9, 4, 1)  # a quarter


@pytest.mark.parametrize("length", [1, 5, 6, 7, 23, 100])
@pytest.mark.parametrize("size, overlap", [(6, 0), (6, 2), (6, 5), (1, 0)])
def test_windows_cover_every_token_and_overlap(length, size, overlap):
    windows = cut(length, size, overlap)
    assert windows[0][0] == 0 and windows[-1][1] == length
    assert all(stop - start == min(size, length) for start, stop in windows)
    for (first, stop), (start, _) in zip(windows, windows[1:], strict=False):
        assert first < start <= stop - overlap


@pytest.mark.parametrize("overlap", [-1, 4, 1.0, True])
def test_an_overlap_that_does_not_fit_is_refused(overlap):
    with pytest.raises(ValueError, match=f"`overlap` must be a whole number from 0 to 3.*Received: {overlap}"):
        cut(9, 4, overlap)


def test_the_owner_shows_most_around_a_token():
    windows = cut(23, 7, 4)
    result = owners(windows, 23)
    for token in range(23):
        margins = {number: min(token - start, stop - 1 - token)
                   for number, (start, stop) in enumerate(windows) if start <= token < stop}
        assert margins[result[token]] == max(margins.values())
    assert len(set(result)) == len(windows)
    assert (owners(cut(23, 7, 5), 23) != result).any()


@pytest.mark.parametrize("name, around", [("wordpiece", ([2], [3], [3])), ("byte-bpe", ([], [], [])),
                                          ("sentencepiece-unigram", ([], [1], [1]))])
def test_a_question_stands_before_each_part_of_its_context(name, around):
    tokenizer = load_tokenizer(FIXTURES / name)
    question = tokenizer.encode("who counts?", add_special_tokens=False)
    context = tokenizer.encode("The lighthouse keeper counts the ships. " * 4, add_special_tokens=False)
    longest = len(question) + 15
    before, between, after = around
    windows = question_windows(tokenizer, question, context, longest, overlap=5)
    room = longest - len(question) - sum(map(len, around))
    assert [(window.start, window.stop) for window in windows] == cut(len(context), room, 5) and len(windows) > 3
    for window in windows:
        head, part = before + question + between, context[window.start:window.stop]
        assert window.token_ids == head + part + after and len(window.token_ids) <= longest
        assert window.token_ids[window.first:window.first + len(part)] == part
        assert window.segment_ids == [0] * len(head) + [1] * (len(part) + len(after))
    assert question_windows(tokenizer, question, [], longest) == []


def test_a_pair_is_what_the_library_makes_of_it():
    tokenizer = load_tokenizer(FIXTURES / "wordpiece")
    question, context = "who counts?", "the lighthouse keeper counts"
    encoding = tokenizer.fast.encode(question, context)
    window, = question_windows(tokenizer, *(tokenizer.encode(text, add_special_tokens=False)
                                            for text in (question, context)), 64)
    assert (window.token_ids, window.segment_ids) == (encoding.ids, encoding.type_ids)


def test_a_question_that_leaves_no_room_is_refused():
    tokenizer = load_tokenizer(FIXTURES / "wordpiece")
    with pytest.raises(ValueError, match="a question of 9 tokens leaves no room for its context: the model reads 12"):
        question_windows(tokenizer, [7] * 9, [8, 9], 12)
    assert len(question_windows(tokenizer, [7] * 9, [8, 9], 13)) == 2


def test_owners_agree_for_one_window():
    np.testing.assert_array_equal(owners([(0, 5)], 5), 0)

import numpy as np
import pytest

from kzoo.tasks.prompts import left_padded, read_inputs, round_up, together, with_tokens
from tests.numpy_decoders import BytesTokenizer


@pytest.mark.parametrize("inputs, ids, texts, single", [
    ("ab", [[97, 98]], ["ab"], True),
    (["ab", "c"], [[97, 98], [99]], ["ab", "c"], False),
    (("ab",), [[97, 98]], ["ab"], False),
    ([5, 3], [[5, 3]], None, True),
    ([[5, 3], [2]], [[5, 3], [2]], None, False),
    (np.array([5, 3]), [[5, 3]], None, True),
    (np.array([[5, 3]], "uint8"), [[5, 3]], None, False),
    ([np.int64(5)], [[5]], None, True),
])
def test_reads_every_kind_of_input(inputs, ids, texts, single):
    prompts = read_inputs(inputs, BytesTokenizer())
    assert (with_tokens(prompts.ids), prompts.texts, prompts.single) == (ids, texts, single)


@pytest.mark.parametrize("inputs, error, words", [
    ([], ValueError, "`inputs` is empty"),
    (np.zeros((0, 3), int), ValueError, "`inputs` is empty"),
    (b"ab", TypeError, "Received: bytes"),
    (7, TypeError, "Received: int"),
    (None, TypeError, "Received: NoneType"),
    (np.zeros((2, 3, 1), int), TypeError, r"int64 \(2, 3, 1\)"),
    (np.zeros((2, 3)), TypeError, "must hold integers"),
    ([[1], "ab"], TypeError, "Prompt 1 must be a list of token ids"),
    ([[1], 3], TypeError, "Prompt 1 must be a list of token ids"),
    ([[1, 2.5]], TypeError, "must be integers. Received: 2.5 in prompt 0"),
    ([[1], [True]], TypeError, "must be integers. Received: True in prompt 1"),
    ([[1], []], ValueError, "Prompt 1 is empty"),
])
def test_refuses_other_inputs(inputs, error, words):
    with pytest.raises(error, match=words):
        with_tokens(read_inputs(inputs, None).ids)


def test_text_needs_a_tokenizer():
    with pytest.raises(ValueError, match="need a tokenizer"):
        read_inputs("ab", None)


def test_an_empty_prompt_becomes_the_token_that_begins_a_text():
    assert with_tokens(read_inputs(["", "a"], BytesTokenizer()).ids, BytesTokenizer()) == [[256], [97]]


class _Closing(BytesTokenizer):
    """Like BERT or T5: encoding adds a beginning and an end."""

    def encode(self, text, add_special_tokens=True):
        ids = super().encode(text)
        return [self.bos_id, *ids, self.eos_id] if add_special_tokens else ids


def test_a_prompt_keeps_the_token_that_begins_it_and_none_that_ends_it():
    assert read_inputs("ab", _Closing()).ids == [[256, 97, 98]]
    without_bos = _Closing()
    without_bos.bos_id = None
    assert read_inputs("ab", without_bos).ids == [[97, 98]]


def test_pads_on_the_left():
    token_ids, padding_mask = left_padded([[5, 3], [7], [2, 3, 5]], pad_token_id=11)
    np.testing.assert_array_equal(token_ids, [[11, 5, 3], [11, 11, 7], [2, 3, 5]])
    np.testing.assert_array_equal(padding_mask, [[0, 1, 1], [0, 0, 1], [1, 1, 1]])
    assert token_ids.dtype == np.int32 and padding_mask.dtype == bool


def test_rows_the_context_cuts_short_are_grouped_by_length():
    assert together([2, 5, 3], 4, None) == [([0, 1, 2], 4)]
    assert together([2, 5, 3], 4, 9) == [([0, 1, 2], 4)]
    assert together([2, 5, 3, 8, 5, 9], 4, 8) == [([0, 2], 4), ([1, 4], 3), ([3], 0), ([5], -1)]
    for rows, limit in together([2, 5, 3, 7, 5], 4, 8):  # the promise: every batch fits, padding included
        assert max([2, 5, 3, 7, 5][row] for row in rows) + limit <= 8


def test_round_up():
    assert [round_up(number, 1) for number in (1, 2, 3, 5, 8)] == [1, 2, 4, 8, 8]
    assert [round_up(number, 16) for number in (1, 16, 17, 33)] == [16, 16, 32, 64]

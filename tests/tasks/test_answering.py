"""Texts to batches of few shapes, and the rows of a model's outputs back in order."""
import pathlib

import numpy as np
import pytest

from kzoo.tasks.answering import (
    TextModel,
    add_special_tokens,
    check_tokenizer,
    holds_text,
    padded_length,
    read_texts,
    run_rows,
    softmax,
)
from kzoo.tokenizers import load_tokenizer, train_tokenizer

WORDPIECE = load_tokenizer(pathlib.Path(__file__).parents[1] / "fixtures" / "tokenizers" / "wordpiece")
rng = np.random.default_rng(0)


class Run:
    """Answers each row with the sum of its real ids and segments, and keeps the inputs."""

    def __init__(self):
        self.calls = []

    def __call__(self, inputs):
        assert {array.dtype.name for array in inputs.values()} <= {"int32", "bool"}
        self.calls.append(inputs)
        total = inputs["token_ids"] + 1000 * inputs.get("segment_ids", 0)
        return {"sum": (total * inputs["padding_mask"]).sum(axis=1), "ids": inputs["token_ids"]}


def model(run=None, max_sequence_length=64, num_segments=2, tokenizer=WORDPIECE, **settings):
    return TextModel(run or Run(), tokenizer, max_sequence_length, num_segments, settings)


# What is text.

@pytest.mark.parametrize("arguments, options, expected", [
    (("a text",), {}, True), ((["a", "b"],), {}, True), ((("a",),), {}, True), (([],), {}, True),
    (({"question": "who?", "context": "he"},), {}, True), (([{"question": "who?"}],), {}, True),
    ((), {"question": "who?", "context": "he"}, True),
    (({"token_ids": np.ones((1, 2))},), {}, False), ((np.ones((1, 2)),), {}, False), (([np.ones(2)],), {}, False),
    ((), {"inputs": 3}, False), ((3,), {}, False), (({},), {}, False),
])
def test_text_is_told_from_tensors(arguments, options, expected):
    assert holds_text(arguments, options) is expected


def test_one_text_or_several():
    assert read_texts("a") == (["a"], True) and read_texts(["a"]) == (["a"], False) and read_texts([]) == ([], False)
    with pytest.raises(TypeError, match="`inputs` must be a text or a list of texts. Received: .'a', 3."):
        read_texts(["a", 3])


def test_text_needs_a_tokenizer():
    check_tokenizer(model())
    with pytest.raises(ValueError, match="Text needs a tokenizer, and this model has none: give it one"):
        check_tokenizer(model(tokenizer=None))


# Rows.

def test_special_tokens_stand_around_a_text():
    texts = ["the ships", "keeper"]
    rows = WORDPIECE.encode_batch(texts, add_special_tokens=False)
    assert add_special_tokens(model(), rows) == WORDPIECE.encode_batch(texts)


def test_a_text_longer_than_the_model_is_refused_or_cut():
    rows = [[7, 8], [9] * 7]
    assert add_special_tokens(model(max_sequence_length=9), rows)[1] == [2] + [9] * 7 + [3]
    with pytest.raises(ValueError, match="Text 1 has 9 tokens, special ones included; the model reads 8. "
                                         "Pass truncate=True to use its beginning"):
        add_special_tokens(model(max_sequence_length=8), rows)
    assert add_special_tokens(model(max_sequence_length=8), rows, truncate=True) == [[2, 7, 8, 3], [2] + [9] * 6 + [3]]
    assert len(add_special_tokens(model(max_sequence_length=None), [[7] * 999])[0]) == 1001


def test_a_text_without_tokens_is_refused_where_nothing_stands_around_it():
    plain = model(tokenizer=train_tokenizer("character", ["abc"]))
    assert add_special_tokens(model(), [[]]) == [[2, 3]]
    with pytest.raises(ValueError, match="Text 1 holds nothing that the tokenizer makes a token of"):
        add_special_tokens(plain, [[1], []])


@pytest.mark.parametrize("batch_size", [1, 3, 8, 32])
def test_rows_come_back_in_order(batch_size):
    rows = [rng.integers(5, 99, length).tolist() for length in rng.integers(1, 64, 21)]
    segments = [[place % 2 for place in range(len(row))] for row in rows]
    results = run_rows(model(), rows, segments, batch_size)
    for row, segment_ids, result in zip(rows, segments, results, strict=True):
        assert result["sum"] == sum(row) + 1000 * sum(segment_ids)
        assert result["ids"][:len(row)].tolist() == row and not result["ids"][len(row):].any()


def test_batches_have_few_shapes():
    """Whatever is asked, the number of compilations is bounded: 10 widths here, and the powers of 2 up to 8."""
    run = Run()
    for _ in range(30):
        rows = [[7] * length for length in rng.integers(1, 300, rng.integers(1, 20))]
        run_rows(model(run, max_sequence_length=300), rows, batch_size=8)
    shapes = {call["token_ids"].shape for call in run.calls}
    assert {height for height, _ in shapes} <= {1, 2, 4, 8}
    assert {width for _, width in shapes} <= {16, 24, 32, 48, 64, 96, 128, 192, 256, 300}
    for call in run.calls:
        assert all(array.shape == call["token_ids"].shape for array in call.values())
        assert call["padding_mask"].any(axis=1).all()  # no row is without a real token


def test_rows_of_like_length_share_a_batch():
    run = Run()
    run_rows(model(run), [[7] * length for length in (60, 2, 50, 3)], batch_size=2)
    assert [call["token_ids"].shape for call in run.calls] == [(2, 16), (2, 64)]


@pytest.mark.parametrize("segments", [0, 1])
def test_a_model_without_segments_is_given_none(segments):
    run = Run()
    run_rows(model(run, num_segments=segments), [[7, 8]], [[0, 1]])
    assert set(run.calls[0]) == {"token_ids", "padding_mask"}


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True])
def test_a_batch_size_that_is_none_is_refused(batch_size):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        run_rows(model(), [[7]], batch_size=batch_size)


def test_padding_is_bounded():
    for length in range(17, 3000):
        assert length <= padded_length(length) <= 1.5 * length
    assert padded_length(1) == 16 and padded_length(100, longest=110) == 110
    assert len({padded_length(length) for length in range(1, 513)}) == 11


def test_softmax_agrees_with_the_formula():
    logits = rng.normal(0, 3, (2, 5))
    np.testing.assert_allclose(softmax(logits), np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(softmax([1e4, 0.0]), [1, 0])

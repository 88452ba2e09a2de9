"""Streams: each document in order, cut into segments; a batch is a function of its number."""
import numpy as np
import pytest

from kzoo.training.token_streams import TokenStreams

T, B, END = 5, 3, 0
# Documents of 7, 1, 16, 2, 0 and 6 tokens before their end; the last one has none. No token occurs twice but the end.
LENGTHS = (7, 1, 16, 2, 0, 6)


def documents():
    numbers = iter(range(1, 100))
    result = [[next(numbers) for _ in range(length)] + [END] for length in LENGTHS]
    return result[:-1] + [result[-1][:-1]]


def streams(batch_size=B, end_id=END):
    return TokenStreams(np.array(sum(documents(), []), "uint16"), T, batch_size, end_id)


def read(source, batches):
    """Per row, the segments as (begins, tokens, targets)."""
    rows = [[] for _ in range(source.batch_size)]
    for number in range(batches):
        inputs, targets, weights = source.batch(number)
        assert inputs["token_ids"].shape == targets.shape == weights.shape == (source.batch_size, T)
        assert (inputs["token_ids"].dtype, weights.dtype) == (np.int32, np.float32)
        np.testing.assert_array_equal(weights, inputs["padding_mask"])
        assert not inputs["token_ids"][~inputs["padding_mask"]].any()
        for row, mask in enumerate(inputs["padding_mask"]):
            real = mask.sum()
            assert mask[:real].all()
            rows[row].append((bool(inputs["begins"][row]), inputs["token_ids"][row, :real].tolist(),
                              targets[row, :real].tolist()))
    return rows


def test_a_row_reads_its_documents_in_order():
    rows = read(streams(), 3)
    one, _, three, *_ = documents()
    assert rows[0] == [(True, one[:5], one[1:6]), (False, one[5:7], one[6:8]),
                       (True, documents()[1][:1], documents()[1][1:2])]
    # A stream that starts within a document has no past either.
    assert rows[1] == [(True, three[:5], three[1:6]), (False, three[5:10], three[6:11]),
                       (False, three[10:15], three[11:16])]
    assert rows[2][0] == (True, three[15:16], [END])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 9])
def test_an_epoch_predicts_every_token_but_the_first_of_each_document(batch_size):
    source = streams(batch_size)
    pairs = [pair for row in read(source, source.batches_per_epoch) for _, tokens, targets in row
             for pair in zip(tokens, targets, strict=True)]
    expected = [pair for document in documents() for pair in zip(document, document[1:], strict=False)]
    assert sorted(pairs) == sorted(expected) and source.predicted_tokens == len(expected)
    assert source.real_tokens(source.batches_per_epoch) == len(expected)
    assert source.real_tokens(2 * source.batches_per_epoch + 1) == 2 * len(expected) + int(
        source.batch(0)[0]["padding_mask"].sum())


def test_a_batch_is_a_function_of_its_number():
    source, other = streams(), streams()
    epoch = source.batches_per_epoch
    again = [source.batch(number) for number in (epoch + 1, 0)][0]
    for one, two in ((source.batch(1), again), (source.batch(2), other.batch(2))):
        np.testing.assert_array_equal(one[0]["token_ids"], two[0]["token_ids"])
    assert source.batch(epoch)[0]["begins"].all()
    assert not np.array_equal(source.batch(0)[0]["token_ids"], source.batch(1)[0]["token_ids"])


def test_without_ends_the_text_is_one_document():
    (row,) = read(streams(1, None), 3)
    assert [begins for begins, _, _ in row] == [True, False, False]
    text = sum(documents(), [])
    assert [tokens for _, tokens, _ in row] == [text[start:start + T] for start in (0, T, 2 * T)]


def test_too_little_text_for_the_streams_is_refused():
    with pytest.raises(ValueError, match="10 streams .* need as many segments of up to 5 tokens; there are 9"):
        streams(10)

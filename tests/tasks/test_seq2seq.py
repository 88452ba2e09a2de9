"""From sources to targets, with a stand-in for the model: who gets which answer, in which order, in which batches."""
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest

from kzoo.tasks.generate import TokenDecoder
from kzoo.tasks.seq2seq import SourceReader, generate_targets, right_padded, source_ids, token_batches
from tests.numpy_decoders import BytesTokenizer

START, EOS = 256, 257


class Shouter(SourceReader):
    """Says each source in capitals, byte by byte."""

    source_vocabulary_size, max_sequence_length = 258, 40
    decoder_start_id, eos_id = START, EOS
    generation_defaults = {"eos_token_id": EOS}

    def __init__(self):
        self.batches = []  # shapes of what was read

    def read(self, token_ids, padding_mask):
        assert token_ids.dtype == np.int32 and padding_mask.dtype == bool and padding_mask[:, 0].all()
        self.batches.append(token_ids.shape)
        return ShoutingDecoder([row[mask].tolist() for row, mask in zip(token_ids, padding_mask, strict=True)])


class ShoutingDecoder(TokenDecoder):
    vocabulary_size, max_sequence_length = 258, 40

    def __init__(self, sources):
        self.sources = sources

    def prefill(self, token_ids, padding_mask, max_new_tokens):
        np.testing.assert_array_equal(token_ids, [[START]] * len(self.sources))
        return self.decode(token_ids[:, 0], (self.sources, 0))

    def decode(self, token_ids, state):
        sources, place = state
        assert len(token_ids) == len(sources)
        logits = np.zeros((len(sources), self.vocabulary_size), "float32")
        for row, source in enumerate(sources):
            said = source[place] if place < len(source) else EOS
            logits[row, said - 32 if 97 <= said <= 122 else said] = 5.0
        return logits, (sources, place + 1)

    def reorder(self, state, rows):
        return [state[0][row] for row in rows], state[1]


def shout(inputs, reader=None, tokenizer=BytesTokenizer(), **options):  # noqa: B008
    return generate_targets(reader or Shouter(), tokenizer, inputs, **options)


def test_a_text_for_a_text_and_ids_for_ids():
    assert shout("abc") == "ABC"
    assert shout(["né", "b"]) == ["Né", "B"]
    assert shout([97, 98]) == [65, 66, EOS]
    assert shout([[97], [98, 99, EOS]], tokenizer=None) == [[65, EOS], [66, 67, EOS]]
    assert shout(np.array([[97, 98]])) == [[65, 66, EOS]]


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "top_k": 1}], ids=str)
def test_answers_come_in_the_order_of_the_sources(options):
    texts = ["abc" * (1 + 5 * i % 11) for i in range(23)]
    reader = Shouter()
    assert shout(texts, reader, batch_tokens=200, max_new_tokens=39, **options) == [text.upper() for text in texts]
    widths = [width for _, width in reader.batches]
    assert len(reader.batches) > 3 and widths == sorted(widths, reverse=True)
    beams = options.get("num_beams", 1)
    assert all(rows * width * beams <= 200 or rows == 1 for rows, width in reader.batches)


def test_batches_hold_similar_lengths_and_few_shapes():
    lengths = np.random.default_rng(0).integers(1, 100, 1000).tolist()
    batches = token_batches(lengths, 2048)
    assert sorted(row for batch in batches for row in batch) == list(range(1000))
    for batch in batches[:-1]:
        width = max(lengths[row] for row in batch)
        assert len(batch) & (len(batch) - 1) == 0 and len(batch) * width <= 2048
        assert width - min(lengths[row] for row in batch) < 10
    assert token_batches([500], 16) == [[0]]  # a single row may be more
    assert len(token_batches([5] * 64, 1024)) == 1 and len(token_batches([5] * 64, 1024, num_beams=4)) == 4
    with pytest.raises(ValueError, match="`batch_tokens` must be at least 1. Received: 0"):
        token_batches([5], 0)


def test_random_draws_belong_to_the_row_and_not_to_its_batch():
    class Mumbler(Shouter):
        def read(self, token_ids, padding_mask):
            decoder = super().read(token_ids, padding_mask)
            plain = decoder.decode
            decoder.decode = lambda ids, state: (plain(ids, state)[0] / 5, plain(ids, state)[1])
            return decoder

    texts = ["abcdefgh" * (1 + i % 3) for i in range(9)]
    options = {"do_sample": True, "seed": 3, "max_new_tokens": 7, "reader": Mumbler()}
    assert shout(texts, batch_tokens=64, **options) == shout(texts, batch_tokens=9999, **options)
    assert shout(texts, **options) != shout(texts, **{**options, "seed": 4})


def test_sources_are_closed_once():
    class Closing(BytesTokenizer):
        def encode(self, text, add_special_tokens=True):
            return super().encode(text) + [EOS] * add_special_tokens

    assert source_ids(BytesTokenizer(), "ab", EOS) == source_ids(Closing(), "ab", EOS) == [97, 98, EOS]


def test_pads_on_the_right():
    token_ids, padding_mask = right_padded([[5, 3], [7], [2, 3, 5]])
    np.testing.assert_array_equal(token_ids, [[5, 3, 0], [7, 0, 0], [2, 3, 5]])
    np.testing.assert_array_equal(padding_mask, [[1, 1, 0], [1, 0, 0], [1, 1, 1]])


@pytest.mark.parametrize("inputs, error, words", [
    ("", ValueError, "Source 0 is empty: pass at least one token"),
    (["a", ""], ValueError, "Source 1 is empty"),
    ([[97], []], ValueError, "Source 1 is empty"),
    ([[97], [258]], ValueError, "below vocabulary_size=258. Received: 258 in source 1"),
    ([[97], "a"], TypeError, "Source 1 must be a list of token ids"),
    ([[1.5]], TypeError, "must be integers. Received: 1.5 in source 0"),
    ([], ValueError, "`inputs` is empty"),
    (7, TypeError, "Received: int"),
    ("a" * 40, ValueError, "Source 0 has 41 tokens, and the model reads at most 40 .`max_sequence_length`.. Split it, "
                           "or pass truncate=True"),
])
def test_refuses_other_inputs(inputs, error, words):
    with pytest.raises(error, match=words):
        shout(inputs)


@pytest.mark.parametrize("options, words", [
    ({"max_tokens": 3}, "Unknown generation option 'max_tokens'"),
    ({"suppress_tokens": (258,)}, "below vocabulary_size=258. Received: 258"),
    ({"stream": print, "num_beams": 2}, "single prompt and num_beams=1"),
    ({"tokenizer": None}, "Text `inputs` need a tokenizer"),
])
def test_refuses_options_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        shout(["ab"], **options)


def test_long_sources_are_cut_only_when_asked():
    text = "".join(chr(97 + i % 26) for i in range(50))
    assert shout(text, truncate=True, max_new_tokens=39) == text[:39].upper()  # and the token that ends it
    ids = [97 + i % 26 for i in range(50)]
    assert shout(ids, truncate=True, max_new_tokens=39)[:-1] == [each - 32 for each in ids[:39]][:38]


def test_targets_that_the_default_cuts_are_told():
    class Endless(Shouter):
        max_sequence_length = None

        def read(self, token_ids, padding_mask):
            decoder = super().read(token_ids, padding_mask)
            decoder.max_sequence_length = None
            return decoder

    with pytest.warns(UserWarning, match="1 of 2 targets reached max_new_tokens=64, the default, .* first in row 1"):
        assert shout(["a", "b" * 70], Endless()) == ["A", "B" * 64]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shout(["a", "b" * 70], Endless(), max_new_tokens=64) == ["A", "B" * 64]
        assert shout("b" * 63, Endless()) == "B" * 63  # it ends by itself, on the last place
    forced = Endless()
    forced.generation_defaults = {"eos_token_id": EOS, "forced_eos_token_id": EOS}
    with pytest.warns(UserWarning, match="1 of 1 targets reached"):
        assert shout("b" * 70, forced) == "B" * 63


def test_streams_and_stop_texts():
    pieces = []
    assert shout("né 漢", stream=pieces.append) == "Né 漢" and "".join(pieces) == "Né 漢"
    pieces.clear()
    assert shout("abcdef", stream=pieces.append, stop="DE") == "ABC" == "".join(pieces)
    assert shout(["abcdef", "xyz"], stop="DE", num_beams=2) == ["ABC", "XYZ"]
    pieces.clear()
    assert shout([97, 98], stream=pieces.append) == [65, 66, EOS] == pieces


def test_needs_neither_keras_nor_tensorflow():
    program = """
import sys
for name in ("keras", "tensorflow", "jax", "torch"):
    sys.modules[name] = None
from tests.tasks.test_seq2seq import shout
print(shout("abc"), shout(["abc", "d"], num_beams=2))
"""
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ABC ['ABC', 'D']\n"

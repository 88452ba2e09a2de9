"""The split of a text into what is trained on and what is held out."""
import types

import numpy as np
import pytest

from kzoo.tokenizers import train_tokenizer
from kzoo.training.corpus import Corpus, encode_corpus
from kzoo.training.options import TrainOptions
from kzoo.training.text_files import check_text

TEXT = "".join(chr(ord("a") + i * i % 23) for i in range(101))
CONFIG = types.SimpleNamespace(max_sequence_length=7)


@pytest.fixture
def encode(tmp_path):
    tokenizer = train_tokenizer("character", [TEXT])
    (tmp_path / "run").mkdir()

    def encode(valid=None, config=CONFIG, **options):
        paths = []
        for name, words in (("data", TEXT), ("valid", valid)):
            path = tmp_path / f"{name}.txt"
            path.write_text(words or "")
            paths.append(path)
        texts = check_text(paths[0]), valid and check_text(paths[1])
        corpus = encode_corpus(Corpus, tmp_path / "run", tokenizer, *texts, TrainOptions(**options), config)
        return corpus, lambda ids: tokenizer.decode(np.asarray(ids).tolist())
    return encode


def test_the_end_of_the_text_is_held_out(encode):
    corpus, decode = encode(validation_split=0.2)
    assert (decode(corpus.train), decode(corpus.valid)) == (TEXT[:80], TEXT[80:])
    assert (corpus.valid_characters, corpus.sequence_length) == (21, 7)


def test_a_validation_file_leaves_the_text_whole(encode):
    corpus, decode = encode(valid=TEXT[13:30], sequence_length=5)
    assert (decode(corpus.train), decode(corpus.valid)) == (TEXT, TEXT[13:30])
    assert (corpus.valid_characters, corpus.sequence_length) == (17, 5)


def test_nothing_needs_to_be_held_out(encode):
    corpus, decode = encode(validation_split=0.0)
    assert decode(corpus.train) == TEXT and corpus.valid is None


def test_the_batches_are_the_options(encode):
    corpus, _ = encode(batch_size=3)
    assert corpus.windows.batches(0, 2).shape == (2, 3, 8)
    assert (corpus.largest_batch, corpus.tokens(5), corpus.steps_per_epoch()) == (21, 105, 4)


def test_either_part_too_short_is_refused(encode):
    with pytest.raises(ValueError, match="The training part of .*data.txt is too short: 90 tokens, a window needs 91"):
        encode(sequence_length=90)
    with pytest.raises(ValueError, match="The validation part of .*data.txt is too short: 7 tokens, a window needs 8"):
        encode(validation_split=0.06)

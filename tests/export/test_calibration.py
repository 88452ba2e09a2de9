"""What is kept of data: texts as the model reads them, from everywhere, and as many as asked for."""
import numpy as np
import pytest

import kzoo
from kzoo.export.calibration import padded, record_texts
from tests.export.conftest import TEXT

WORDS = " ".join(TEXT).split()


@pytest.fixture(scope="module")
def classifier():
    tokenizer = kzoo.train_tokenizer("wordpiece", TEXT, vocabulary_size=60)
    return kzoo.create("bert-tiny", task="text-classification", labels=("a", "b"), tokenizer=tokenizer, num_layers=1,
                       vocabulary_size=67, num_heads=3, hidden_dim=18, intermediate_dim=17, max_sequence_length=23)


def test_texts_are_those_of_the_data_as_the_model_reads_them(classifier, tmp_path):
    texts = [" ".join(WORDS[start:start + 1 + start % 2]) for start in range(80)]
    (tmp_path / "data.tsv").write_text("".join(f"{text}\t{'ab'[i % 2]}\n" for i, text in enumerate(texts)))
    expected = {tuple(classifier.tokenizer.encode(text)) for text in texts}
    found = record_texts(classifier, [tmp_path / "data.tsv"], count=15)
    assert len(found) == 15
    ids = [tuple(map(int, text["token_ids"])) for text in found]
    assert set(ids) <= expected and len(set(ids)) > 10 and len(set(map(len, ids))) > 3
    assert all(text["padding_mask"].all() and set(text) == {"token_ids", "padding_mask", "segment_ids"}
               for text in found)
    assert len(record_texts(classifier, [tmp_path / "data.tsv"], count=200)) == len(texts)


def test_texts_that_are_too_long_are_cut(classifier, tmp_path):
    (tmp_path / "data.tsv").write_text(f"{' '.join(WORDS)}\ta\n")
    assert [len(text["token_ids"]) for text in record_texts(classifier, [tmp_path / "data.tsv"])] == [23]


def test_texts_fill_buckets():
    text = {"token_ids": np.array([5, 6, 7], "int32"), "padding_mask": np.ones(3, bool)}
    assert padded(text, 5)["token_ids"].tolist() == [[5, 6, 7, 0, 0]]
    assert padded(text, 5)["padding_mask"].tolist() == [[True] * 3 + [False] * 2]
    assert padded(text, 2)["token_ids"].tolist() == [[5, 6]]

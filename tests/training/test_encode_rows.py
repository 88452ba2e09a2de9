"""A table becomes rows on disk, once; rows that do not fit are refused or told of; what is held out."""
import numpy as np
import pytest

from kzoo.tokenizers import train_tokenizer
from kzoo.training import encode_rows
from kzoo.training.encode_rows import encode_table, split_rows
from kzoo.training.options import TrainOptions
from kzoo.training.row_encoders import SequenceLabels
from kzoo.training.tables import Table, check_table

TEXTS = ["Ada sang", "Bob left", "Ada and Bob sang and left", "home", "Bob"]


@pytest.fixture
def table(tmp_path):
    (tmp_path / "a.tsv").write_text("".join(f"{text}\t{number % 2}\n" for number, text in enumerate(TEXTS)))
    return check_table("text-classification", tmp_path / "a.tsv")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("wordpiece", TEXTS, 60)


def encoder(tokenizer, limit=20, **options):
    return SequenceLabels(tokenizer, TrainOptions(**options), None, limit, ("0", "1"))


def test_rows_are_encoded_in_groups_and_once(table, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(encode_rows, "GROUP", 2)
    found = encode_table(table, encoder(tokenizer), tmp_path, "training")
    assert [found["token_ids"][number].tolist() for number in range(5)] == tokenizer.encode_batch(TEXTS)
    assert found["label"].tolist() == [0, 1, 0, 1, 0] and found.facts == {"examples": 5, "skipped": 0, "cut": 0}
    monkeypatch.setattr(SequenceLabels, "encode", None)  # would fail if it were needed
    assert len(encode_table(table, encoder(tokenizer), tmp_path, "training")) == 5
    with pytest.raises(TypeError):
        encode_table(table, encoder(tokenizer, limit=19), tmp_path, "training")


def test_a_part_of_the_rows(table, tokenizer, tmp_path):
    chosen = np.array([True, False, False, True, False])
    found = encode_table(table, encoder(tokenizer), tmp_path, "training", chosen)
    assert [found["token_ids"][number].tolist() for number in range(2)] == tokenizer.encode_batch(["Ada sang", "home"])
    assert len(encode_table(table, encoder(tokenizer), tmp_path, "training", ~chosen)) == 3  # not the one on disk


def test_what_does_not_fit_is_refused_skipped_or_cut(table, tokenizer, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"a.tsv, line 3: the text has \d+ tokens and the model takes 7. .*--truncate"):
        encode_table(table, encoder(tokenizer, 7), tmp_path, "training")
    found = encode_table(table, encoder(tokenizer, 7), tmp_path, "training", skip_bad_rows=True)
    assert len(found) == 4 and found.facts["skipped"] == 1
    assert "Skipped 1 bad row: " in capsys.readouterr().err
    found = encode_table(table, encoder(tokenizer, 7, truncate="end"), tmp_path, "training")
    assert len(found) == 5 and found.facts["cut"] == 1 and found["token_ids"].lengths.max() == 7
    assert "Cut 1 of 5 training texts to 7 tokens." in capsys.readouterr().err


def test_rows_are_held_out_at_random_but_questions_from_the_end():
    table = Table("text-classification", (), None, 100, 0, {}, "")
    first, again, other = (split_rows(table, 0.2, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert first.sum() == 20 and 0 < first[:80].sum() < 20 and not np.array_equal(first, other)
    questions = split_rows(Table("question-answering", (), None, 100, 0, {}, ""), 0.2, 3)
    assert questions.tolist() == [False] * 80 + [True] * 20
    assert split_rows(table, 0.0, 3).sum() == 0
    assert split_rows(Table("translation", (), None, 3, 0, {}, ""), 0.01, 3).sum() == 1

"""SavedModels that take strings, in a folder of their own."""
import pathlib

import pytest

import kzoo
from kzoo.tokenizers import load_tokenizer
from tests.export.test_every_target import write

pytest.importorskip("tensorflow_text", reason="the operators are those of tensorflow-text")

FOLDER = pathlib.Path(__file__).parents[1] / "fixtures" / "tokenizers"


def test_a_folder_of_its_own_answers_strings(redrawn, tmp_path):
    tokenizer = load_tokenizer(FOLDER / "sentencepiece-unigram")
    model, other = (redrawn(kzoo.create(
        "distilbert-base", task="feature-extraction", tokenizer=tokenizer, vocabulary_size=120, max_sequence_length=45,
        num_layers=1, num_heads=3, hidden_dim=18, intermediate_dim=17, pooling="mean"), seed) for seed in (0, 1))
    session = write(model, "savedmodel-text", tmp_path)
    assert (tmp_path / "saved_model_text/1/saved_model.pb").is_file() and session.differences() == []
    texts = ["the keeper", "Le phare compte les bateaux " * 9]
    for found, expected, wrong in zip(session(texts), *(each(texts, truncate=True) for each in (model, other)),
                                      strict=True):
        assert found == pytest.approx(expected, abs=1e-5) != pytest.approx(wrong, abs=1e-5)

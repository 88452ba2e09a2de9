"""TFLite files that take a string: the whole model in one, and the tokenizer alone."""
import pathlib

import numpy as np
import pytest

import kzoo
from kzoo.tokenizers import load_tokenizer
from tests.export.test_every_target import write

pytest.importorskip("tensorflow_text", reason="the operators are those of tensorflow-text")

FOLDER = pathlib.Path(__file__).parents[1] / "fixtures" / "tokenizers"
SIZES = {"num_layers": 1, "num_heads": 3, "hidden_dim": 18, "intermediate_dim": 17}
TEXTS = ["the keeper counts", "", "Ünknown [MASK] \u2603 ships " * 9]


def test_one_file_from_a_string_to_labels(redrawn, few_points, tmp_path):
    model = redrawn(kzoo.create("bert-tiny", task="text-classification", labels=("a", "b", "é"), max_sequence_length=41,
                                tokenizer=load_tokenizer(FOLDER / "wordpiece"), vocabulary_size=223, **SIZES))
    session = write(model, "tflite-text", tmp_path)
    assert (tmp_path / "tflite/model_text.tflite").is_file() and session.differences() == []
    expected = model(TEXTS, truncate=True)
    for found, each in zip(session(TEXTS), expected, strict=True):
        assert found["scores"] == pytest.approx(each["scores"], abs=1e-5)
    outputs = session.read(TEXTS)
    assert outputs["label"].tolist() == [each["label"] for each in expected]
    assert outputs["token_ids"].shape == (3, 41)  # the longest text needs the longer of the two signatures
    assert session.read(TEXTS[:2])["token_ids"].shape == (2, 32)
    assert np.all(outputs["padding_mask"].sum(axis=1) == np.minimum(outputs["num_tokens"], 41))


def test_the_tokenizer_alone(redrawn, tmp_path):
    tokenizer = load_tokenizer(FOLDER / "sentencepiece-unigram")
    model = redrawn(kzoo.create("gpt2-nano", tokenizer=tokenizer, vocabulary_size=120, max_sequence_length=29, **SIZES))
    with pytest.raises(ValueError, match="tflite file with text would give other ids .* two  blanks"):
        write(model, "tflite-text", tmp_path)  # this vocabulary knows no end of a line that is no space

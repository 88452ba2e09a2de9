"""The twins in TFLite files give the ids of the tokenizers."""
import json
import pathlib

import numpy as np
import pytest

from kzoo import wordpiece_characters
from kzoo.tokenizers import load_tokenizer, train_tokenizer

tf = pytest.importorskip("tensorflow", reason="TFLite files are made by TensorFlow")
tensorflow_text = pytest.importorskip("tensorflow_text", reason="the twins are made of tensorflow-text")
litert = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT runs the files")

from kzoo.tokenizers_in_tflite import tflite_tokenizer  # noqa: E402

FIXTURES = pathlib.Path(__file__).parent / "fixtures" / "tokenizers"
ROWS = [json.loads(line) for line in (FIXTURES / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
SHARED = {"bert-base-uncased": "bert_uncased", "t5": "t5", "sentencepiece-test": "spm_test"}
LONGEST = 1024


def convert(tokenizer):
    """A function of one text to its ids, in the interpreter."""
    twin = tflite_tokenizer(tokenizer)

    @tf.function(input_signature=[tf.TensorSpec([1], tf.string, name="texts")])
    def function(texts):
        ids = twin(texts)
        places = tf.minimum(tf.range(LONGEST), tf.size(ids))
        return {"ids": tf.gather(tf.concat([ids, [-1]], axis=0), places)}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module())
    converter.allow_custom_ops = True
    runner = litert.InterpreterWithCustomOps(
        custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS,
        model_content=converter.convert()).get_signature_runner()

    def encode(text):
        ids = runner(texts=np.array([text.encode()], object))["ids"].tolist()
        return [index for index in ids if index >= 0]

    return encode


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    """Only characters that are likely: all of Unicode takes ten seconds."""
    monkeypatch.setattr(wordpiece_characters, "CODE_POINTS", [
        point for point in wordpiece_characters.CODE_POINTS if point < 0x3400 or 0x1F300 < point < 0x1FA00
        or 0x4E00 <= point < 0xA000 or 0xAC00 <= point < 0xD7A4 or 0xF900 <= point < 0x10000])


@pytest.mark.parametrize("name", ["wordpiece", "sentencepiece-unigram"])
def test_ids_are_those_of_the_libraries(name):
    twin = convert(load_tokenizer(FIXTURES / name))
    for row in ROWS:
        assert twin(row["text"]) == row[name], row["text"]
    assert twin("The keeper") != twin("The keepers")


@pytest.mark.parametrize("folder", SHARED)
def test_ids_of_published_vocabularies(shared, folder):
    data = shared / "data" / "tokenizers"
    twin = convert(load_tokenizer(data / folder))
    for line in (data / "expected.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        assert twin(row["text"]) == row[SHARED[folder]], row["text"]


def test_what_has_no_operator_is_refused():
    with pytest.raises(ValueError, match="A byte-bpe tokenizer cannot run inside a TFLite file"):
        tflite_tokenizer(train_tokenizer("byte-bpe", ["abc"]))
    with pytest.raises(ValueError, match="needs a unigram model"):
        tflite_tokenizer(load_tokenizer(FIXTURES / "sentencepiece-bpe"))

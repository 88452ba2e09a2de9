"""The twins in ONNX graphs give the ids of the tokenizers."""
import json
import pathlib

import numpy as np
import pytest

from kzoo import wordpiece_characters
from kzoo.tokenizers import load_tokenizer, train_tokenizer
from tests import onnx_operators

onnx_operators.need()
ir = pytest.importorskip("onnx_ir", reason="graphs are made by onnx-ir")

from kzoo.export.onnx_text_session import open_graph  # noqa: E402
from kzoo.tokenizers_in_onnx import KINDS, OPSETS, Steps, onnx_tokenizer  # noqa: E402

FIXTURES = pathlib.Path(__file__).parent / "fixtures" / "tokenizers"
ROWS = [json.loads(line) for line in (FIXTURES / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
SHARED = {"gpt2": "gpt2", "bert-base-uncased": "bert_uncased", "t5": "t5", "sentencepiece-test": "spm_test"}
CORNERS = ["\x00", "a\x00\x00b", "\x00 ship \x00", "ship\u2603", "\u2603ship ships", "", "12345 ships", "[SEP]ship"]


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    """Only characters that are likely: all of Unicode takes ten seconds."""
    monkeypatch.setattr(wordpiece_characters, "CODE_POINTS", [
        point for point in wordpiece_characters.CODE_POINTS if point < 0x3400 or 0x1F300 < point < 0x1FA00
        or 0x4E00 <= point < 0xA000 or 0xAC00 <= point < 0xD7A4 or 0xF900 <= point < 0x10000])


def open_twin(tokenizer):
    """A function of texts to lists of ids."""
    steps, texts = Steps(), ir.val("texts", dtype=ir.DataType.STRING, shape=("batch",))
    ids, starts, lengths = onnx_tokenizer(tokenizer)(steps, texts)
    rows = steps.fill(ids, starts, lengths, steps.largest(lengths), steps.constant([-1]))
    for i, node in enumerate(steps.nodes):
        for j, value in enumerate(node.outputs):
            value.name = f"{i}_{j}"
    rows.dtype, rows.shape = ir.DataType.INT64, ir.Shape(("batch", "length"))
    graph = ir.Graph([texts], [rows], nodes=steps.nodes, initializers=steps.initializers, opset_imports=OPSETS,
                     name="twin")
    opened = open_graph(ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString())
    return lambda texts: [[index for index in row if index >= 0]
                          for row in opened.run(None, {"texts": np.array(texts, object)})[0].tolist()]


@pytest.mark.parametrize("name", ["byte-bpe", "wordpiece", "sentencepiece-unigram", "sentencepiece-bpe"])
def test_ids_are_those_of_the_libraries(name):
    tokenizer = load_tokenizer(FIXTURES / name)
    twin = open_twin(tokenizer)
    assert tokenizer.kind in KINDS
    assert twin([row["text"] for row in ROWS]) == [row[name] for row in ROWS]
    for text in CORNERS:  # alone, where nothing pads
        assert twin([text]) == [tokenizer.encode(text, add_special_tokens=False)], text


@pytest.mark.parametrize("folder", SHARED)
def test_ids_of_published_vocabularies(shared, folder):
    data = shared / "data" / "tokenizers"
    rows = [json.loads(line) for line in (data / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
    twin = open_twin(load_tokenizer(data / folder))
    assert twin([row["text"] for row in rows]) == [row[SHARED[folder]] for row in rows]


def test_other_merges_give_other_ids():
    texts = [row["text"] for row in ROWS]
    one, other = (train_tokenizer("byte-bpe", texts[:number], vocabulary_size=300) for number in (3, 9))
    assert open_twin(one)(texts) == one.encode_batch(texts, add_special_tokens=False)
    assert open_twin(one)(texts) != other.encode_batch(texts, add_special_tokens=False)


def test_what_has_no_operator_is_refused(tmp_path):
    with pytest.raises(ValueError, match="A character tokenizer cannot run inside an ONNX graph"):
        onnx_tokenizer(train_tokenizer("character", ["abc"]))
    load_tokenizer(FIXTURES / "sentencepiece-bpe").save(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(ValueError, match="needs the model file"):
        onnx_tokenizer(load_tokenizer(tmp_path))

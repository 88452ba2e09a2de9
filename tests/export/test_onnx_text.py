"""ONNX files that take strings: the whole model behind its tokenizer, and the tokenizer alone."""
import numpy as np
import onnx
import pytest

from kzoo import tokenizers_in_onnx
from kzoo.export import open_bundle, read_bundle
from kzoo.export.readme import render_readme
from tests import onnx_operators
from tests.export.test_every_target import write

onnx_operators.need()

TEXTS = ["the quick brown fox", "", "jumps over [MASK] Ünknown \u2603 " * 9]


def test_a_classifier_answers_strings(text_bundle):
    model, folder = text_bundle
    session = open_bundle(folder, runtime="onnx-text")
    expected, outputs = model(TEXTS, truncate=True), session.read(TEXTS)
    for found, each in zip(session(TEXTS), expected, strict=True):
        assert found["scores"] == pytest.approx(each["scores"], abs=1e-5)
    assert outputs["label"].tolist() == [each["label"] for each in expected]
    assert outputs["num_tokens"].tolist() == [len(model.tokenizer.encode(text)) for text in TEXTS]
    assert outputs["padding_mask"].sum(axis=1).max() == 41 < outputs["num_tokens"].max()  # the last is cut


def test_the_files_of_ids_need_no_operators_of_others(text_bundle):
    for name, foreign in (("model.onnx", False), ("model_text.onnx", True)):
        graph = onnx.load(text_bundle[1] / "onnx" / name).graph
        assert any(node.domain == tokenizers_in_onnx.DOMAIN for node in graph.node) == foreign


def test_a_generator_gets_its_tokenizer(model, tmp_path):
    session = write(model, "onnx-text", tmp_path)
    assert (tmp_path / "onnx/tokenizer.onnx").is_file()
    texts = ["the quick brown fox", "dozen"]
    ids = session(texts)
    assert ids == model.tokenizer.encode_batch(texts, add_special_tokens=False) and session(texts[1]) == ids[1]
    assert session.read(texts)["padding_mask"].tolist()[1] == [1] * len(ids[1]) + [0] * (len(ids[0]) - len(ids[1]))


def test_other_ids_are_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizers_in_onnx, "NUL", "\n")  # which is a character of its own
    with pytest.raises(ValueError, match=r"onnx file with text would give other ids .* such as"):
        write(model, "onnx-text", tmp_path)


def test_a_batch_is_the_same_as_its_rows(text_bundle):
    session = open_bundle(text_bundle[1], runtime="onnx-text")
    rows = np.concatenate([session.read([text])["logits"] for text in TEXTS])
    np.testing.assert_allclose(session.read(TEXTS)["logits"], rows, atol=1e-5)


def test_files_that_take_strings_have_theirs(text_bundle):
    manifest = read_bundle(text_bundle[1]).manifest
    rows = [{**manifest["artifacts"][0], "runtime": runtime, "file": f"the file of {runtime}"}
            for runtime in ("tflite", "onnx-text", "tflite-text", "savedmodel-text")]
    text = render_readme({**manifest, "artifacts": rows})
    for word in ("register_custom_ops_library", '"the file of onnx-text"', "SELECT_TFTEXT_OPS", "cut at their end",
                 "import tensorflow as tf, tensorflow_text", "`label` string (batch_size)", "`answer_32`, `answer_41`"):
        assert word in text, word
    assert "$" not in text.replace("$PWD", "")
    assert "SELECT_TFTEXT_OPS" not in (text_bundle[1] / "README.md").read_text(encoding="utf-8")

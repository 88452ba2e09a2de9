"""Which files take strings, and the ids that must come out of them."""
import pathlib

import pytest

from kzoo.export.exporter import add_text, make_plan
from kzoo.export.text_forms import CORES, DIFFICULT, around, refuse_differences, text_formats, wanted_ids
from kzoo.tokenizers import load_tokenizer, train_tokenizer

FOLDER = pathlib.Path(__file__).parents[1] / "fixtures" / "tokenizers"
BYTES, WORDS, PIECES = (load_tokenizer(FOLDER / name) for name in ("byte-bpe", "wordpiece", "sentencepiece-unigram"))


def test_a_format_without_operators_is_left_out_and_named():
    formats = ("savedmodel", "onnx", "tflite")
    assert text_formats("text-classification", WORDS, formats) == (list(CORES), [])
    found, remarks = text_formats("text-generation", BYTES, formats)
    assert found == ["onnx-text"] and [remark.split(":")[0] for remark in remarks] == ["savedmodel", "tflite"]


@pytest.mark.parametrize(("task", "tokenizer", "formats", "words"), [
    ("text-classification", None, ("onnx",), "needs a tokenizer"),
    ("question-answering", WORDS, ("onnx",), "reads two"),
    ("fill-mask", BYTES, ("onnx",), "plain characters"),
    ("text-generation", BYTES, ("tflite", "savedmodel"), "no format of tflite, savedmodel .* These have: onnx"),
    ("text-classification", train_tokenizer("character", ["ab"]), ("onnx",), "These have: savedmodel"),
])
def test_what_cannot_be_is_refused(task, tokenizer, formats, words):
    with pytest.raises(ValueError, match=words):
        text_formats(task, tokenizer, formats)


def test_what_stands_around_a_text():
    cls, sep, eos = WORDS.cls_id, WORDS.sep_id, PIECES.eos_id
    assert around("text-classification", WORDS) == ([cls], [sep])
    assert around("text-generation", WORDS) == ([], [])  # to be continued: not ended
    assert around("translation", PIECES, eos) == ([], [eos])
    assert around("translation", BYTES, 7) == ([], [7])
    text = "the keeper counts the ships"
    ids = WORDS.encode(text)
    assert wanted_ids("text-classification", WORDS, [text]) == [ids]
    assert wanted_ids("text-classification", WORDS, [text], longest=5) == [[*ids[:4], sep]]


def test_differences_are_refused_by_one_sentence():
    wanted = wanted_ids("text-generation", BYTES, DIFFICULT)
    refuse_differences("onnx-text", DIFFICULT, wanted, wanted)
    wrong = [*wanted[:3], [1], *wanted[4:]]
    with pytest.raises(ValueError, match=r"onnx file .* for 1 of \d+ texts, such as ' .t two"):
        refuse_differences("onnx-text", DIFFICULT, wanted, wrong)


def test_files_with_text_stand_behind_those_without(model):
    plan, remarks = add_text(make_plan(("onnx", "tflite"), ("none", "int8")), model)  # it has byte-level BPE
    assert [(target.name, variant) for target, variant in plan] == [
        ("onnx", "none"), ("onnx", "int8"), ("onnx-text", "none"), ("tflite", "none"), ("tflite", "int8")]
    assert len(remarks) == 1

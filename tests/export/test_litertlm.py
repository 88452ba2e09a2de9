"""The one file for phones."""
import sys

import pytest

from kzoo.export.litertlm import write_litertlm


def sections(path):
    import io

    from litert_lm_builder import litertlm_peek
    stream = io.StringIO()
    litertlm_peek.peek_litertlm_file(str(path), None, stream)
    return stream.getvalue()


def test_it_holds_model_tokenizer_and_token_ids(exported, model):
    text = sections(exported[0] / "tflite/model.litertlm")
    for word in ("TFLiteModel", "HF_Tokenizer", "LlmMetadata", "tf_lite_prefill_decode", "max_num_tokens: 53",
                 f"ids: {model.tokenizer.eos_id}"):
        assert word in text, word


def test_the_model_in_it_is_the_verified_one(exported):
    content = (exported[0] / "tflite/model.tflite").read_bytes()
    assert content in (exported[0] / "tflite/model.litertlm").read_bytes()


def test_a_folder_without_a_tokenizer_is_refused(exported, tmp_path):
    with pytest.raises(FileNotFoundError, match="neither tokenizer.json nor tokenizer.model"):
        write_litertlm(exported[0] / "tflite/model.tflite", tmp_path, tmp_path / "a.litertlm", [1], 53)


def test_the_extra_is_named_where_the_builder_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_lm_builder", None)
    with pytest.raises(ImportError, match=r"pip install 'kzoo\[export\]'"):
        write_litertlm("model.tflite", tmp_path, tmp_path / "a.litertlm", [1], 53)

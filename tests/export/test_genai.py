"""Configs for other programs."""
import json

from kzoo.export.genai import genai_config, generation_config, hugging_face_files, javascript_settings


def test_genai_config_has_the_form_that_the_program_reads(model):
    config = genai_config(model)
    assert config["model"]["type"] == "decoder"
    assert config["model"]["decoder"] == {
        "filename": "model.onnx", "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 3,
        "head_size": 5, "hidden_size": 15}
    assert config["model"]["vocab_size"] == 311 and config["model"]["context_length"] == 53
    assert config["model"]["eos_token_id"] == model.tokenizer.eos_id
    assert config["search"]["past_present_share_buffer"] is False
    assert genai_config(model, "int8")["model"]["decoder"]["filename"] == "model_int8.onnx"


def test_ids_that_the_tokenizer_lacks_are_none_or_never(model, monkeypatch):
    monkeypatch.setattr(model, "tokenizer", None)
    assert generation_config(model) == {"do_sample": False, "bos_token_id": None, "eos_token_id": None,
                                        "pad_token_id": None}
    assert genai_config(model)["model"]["pad_token_id"] == 311


def test_a_model_that_their_classes_cannot_say_keeps_our_form(model, monkeypatch):
    assert hugging_face_files(model)["config.json"]["vocab_size"] == 311

    def refuse(model):
        raise ValueError("no room")
    monkeypatch.setattr("kzoo.hugging_face.hugging_face_config", refuse)
    assert hugging_face_files(model)["config.json"]["kzoo"]["config"]["vocabulary_size"] == 311


def test_files_in_the_bundle(exported):
    for name in ("config.json", "generation_config.json", "onnx/genai_config.json", "tokenizer_config.json"):
        assert isinstance(json.loads((exported[0] / name).read_text()), dict)


def test_transformers_js_is_told_what_to_open(exported):
    assert json.loads((exported[0] / "config.json").read_text())["transformers.js_config"] == {
        "dtype": "fp32", "use_external_data_format": {}}
    assert javascript_settings("int4", ["model_q4.onnx_data"]) == {
        "dtype": "q4", "use_external_data_format": {"model_q4.onnx": 1}}

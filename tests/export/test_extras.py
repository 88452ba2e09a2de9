"""Files beside an artifact."""
from kzoo.export.extras import write_extras


def test_the_first_variant_gets_the_config_and_no_file_is_written_twice(model, tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "config.json").write_text("{}")
    first = write_extras(model, tmp_path, "onnx", "int8", {})
    assert first == ["onnx/genai_config.json", "onnx/tokenizer.json", "onnx/tokenizer_config.json"]
    assert "model_int8.onnx" in (tmp_path / first[0]).read_text()
    config = (tmp_path / "config.json").read_text()
    assert '"dtype": "int8"' in config
    assert write_extras(model, tmp_path, "onnx", "none", {}) == []
    assert (tmp_path / "config.json").read_text() == config


def test_a_runtime_without_extras_has_none(model, tmp_path):
    assert write_extras(model, tmp_path, "savedmodel", "none", {}) == []

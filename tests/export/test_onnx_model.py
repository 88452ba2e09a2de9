"""The ONNX file: names, free dimensions, weights stored once, big files split."""
import collections
import logging

import numpy as np
import onnx
import onnxruntime
import pytest

from kzoo.export import onnx_model
from kzoo.export.onnx_model import OnnxTarget, quiet_tf2onnx
from kzoo.export.signatures import signatures, sizes_of


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    assert OnnxTarget().write(model, folder) == ["onnx/model.onnx"]
    return folder / "onnx" / "model.onnx"


def sizes(values):
    return {value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in values}


def test_names_and_dimensions_are_those_that_runtimes_expect(written):
    graph = onnx.load(written).graph
    inputs, outputs = sizes(graph.input), sizes(graph.output)
    assert inputs["input_ids"] == ["batch_size", "sequence_length"]
    assert inputs["attention_mask"] == ["batch_size", "total_sequence_length"]
    assert inputs["past_key_values.1.value"] == ["batch_size", 3, "past_sequence_length", 5]
    assert outputs["logits"] == ["batch_size", "sequence_length", 311]
    assert outputs["present.0.key"] == ["batch_size", 3, "total_sequence_length", 5]
    assert len(inputs) == 3 + 4 and len(outputs) == 1 + 4


def test_each_weight_is_stored_once(written, model):
    weights = [value for value in onnx.load(written).graph.initializer if len(value.dims) == 2]
    shapes = collections.Counter(tuple(value.dims) for value in weights)
    assert shapes[311, 15] == 1 and shapes[15, 311] == 0  # the tied table, and no transposed copy
    stored = sum(np.prod(value.dims) for value in onnx.load(written).graph.initializer if value.data_type == 1)
    assert stored < 1.01 * model.count_params() + 64


def test_big_weights_go_to_a_file_beside(model, tmp_path, monkeypatch, written):
    monkeypatch.setattr(onnx_model, "EXTERNAL_ABOVE", 1000)
    files = OnnxTarget().write(model, tmp_path)
    assert files == ["onnx/model.onnx", "onnx/model.onnx_data"]
    assert (tmp_path / files[0]).stat().st_size < written.stat().st_size
    session = onnxruntime.InferenceSession(str(tmp_path / files[0]), providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].name == "input_ids"


def test_a_file_with_other_names_is_refused(written, model, tmp_path):
    signature = signatures(model.task, "onnx", sizes_of(model))["decode"]
    onnx_model.check(written, signature)
    proto = onnx.load(written)
    for node in proto.graph.node:
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    next(value for value in proto.graph.output if value.name == "logits").name = "scores"
    onnx.save(proto, tmp_path / "renamed.onnx")
    with pytest.raises(ValueError, match="has the outputs .*scores.* the signature asks for .*logits"):
        onnx_model.check(tmp_path / "renamed.onnx", signature)


def test_an_unknown_quantisation_is_refused_before_work(model, tmp_path):
    with pytest.raises(ValueError, match="quantisation 'int9'"):
        OnnxTarget().write(model, tmp_path, quantize="int9")
    assert list(tmp_path.iterdir()) == []


def test_the_loggers_are_as_before_after_a_conversion():
    level = logging.getLogger("tf2onnx").level
    with quiet_tf2onnx():
        assert logging.getLogger("tf2onnx").level == logging.ERROR
    assert logging.getLogger("tf2onnx").level == level

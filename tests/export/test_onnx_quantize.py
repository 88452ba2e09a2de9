"""Weights in few bits: what is stored, how exact it is, and that a table is stored once."""
import numpy as np
import onnx
import onnxruntime
import pytest

import kzoo
from kzoo.export import onnx_quantize
from kzoo.export.onnx_model import OnnxTarget

E, V = 32, 517  # the table is as wide as a block


@pytest.fixture(scope="module")
def model(redrawn):
    return redrawn(kzoo.create("gpt2-nano", vocabulary_size=V, num_layers=1, num_heads=2, hidden_dim=E,
                               intermediate_dim=45, max_sequence_length=11))


@pytest.fixture
def written(model, tmp_path, monkeypatch):
    """A function of a variant: the proto of its file."""
    monkeypatch.setattr(onnx_quantize, "BITS", {"int8": (8, E), "int4": (4, E)})

    def write(variant):
        file, = OnnxTarget().write(model, tmp_path, variant)
        return onnx.load(tmp_path / file)
    return write


def arrays(proto):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


@pytest.mark.parametrize(("variant", "bits"), [("int8", 8), ("int4", 4)])
def test_every_matrix_is_packed_and_the_table_once(written, variant, bits):
    proto = written(variant)
    stored = arrays(proto)
    nodes = [node.op_type for node in proto.graph.node]
    assert nodes.count("MatMulNBits") == 1 + 4 and nodes.count("GatherBlockQuantized") == 1
    assert not [array.shape for array in stored.values() if array.dtype == np.float32 and array.shape[-1:] == (E,)
                and array.ndim == 2 and len(array) > 45]  # nothing as large as the table stays in float32
    assert sum(array.shape == (V, E * bits // 8) for array in stored.values()) == 1
    assert sum(array.nbytes for array in stored.values() if array.dtype == np.uint8) < (
        (V + 12 * E + 45) * E * bits / 8 * 1.2)


@pytest.mark.parametrize(("bits", "most"), [(8, 1 / 254), (4, 1 / 30)])
def test_what_is_read_back_is_near(bits, most):
    """A row of the table, as the graph reads it, is off by at most half a step of its block."""
    rows = np.random.default_rng(0).normal(size=(7, 64)).astype("float32")
    inputs = [onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, [None])]
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 64])]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Gather", ["table", "ids"], ["y"])], "g", inputs, outputs,
                                   [onnx.numpy_helper.from_array(np.tile(rows, (64, 1)), "table")])
    model = onnx_quantize.ir.from_proto(onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10))
    onnx_quantize.BITS["test"] = (bits, 32)
    try:
        proto = onnx_quantize.ir.to_proto(onnx_quantize.quantize(model, "test"))
    finally:
        del onnx_quantize.BITS["test"]
    assert [node.op_type for node in proto.graph.node if node.op_type != "Reshape"] == ["GatherBlockQuantized"]
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    found, = session.run(None, {"ids": np.arange(7)})
    blocks = rows.reshape(7, 2, 32)
    spread = 2 * np.abs(blocks).max(-1) if bits == 8 else blocks.max(-1) - np.minimum(blocks.min(-1), 0)
    error = np.abs(found.reshape(7, 2, 32) - blocks).max(-1)
    assert (error <= spread * most * 1.05).all() and error.max() > spread.max() * most / 20


def test_half_precision_keeps_the_signature(written):
    proto, plain = written("fp16"), written("none")
    assert {array.dtype for array in arrays(proto).values() if array.dtype.kind == "f"} == {np.dtype("float16")}
    for side in ("input", "output"):
        assert [(value.name, value.type.tensor_type.elem_type) for value in getattr(proto.graph, side)] == [
            (value.name, value.type.tensor_type.elem_type) for value in getattr(plain.graph, side)]


def test_what_is_not_a_weight_stays(written):
    nodes = [node.op_type for node in written("int8").graph.node]
    assert nodes.count("MultiHeadAttention") == 1 and nodes.count("MatMul") == 0

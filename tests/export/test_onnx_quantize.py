"""Weights in few bits: what is stored, how exact it is, and that a table is stored once."""
import collections

import numpy as np
import onnx
import onnxruntime
import pytest

import kzoo
from kzoo.export import onnx_model, onnx_quantize
from kzoo.export.onnx_model import OnnxTarget

E, V = 32, 517  # the table is as wide as a block
lost = onnx_model.lost_by_integers


@pytest.fixture(scope="module")
def model(redrawn):
    return redrawn(kzoo.create("gpt2-nano", vocabulary_size=V, num_layers=1, num_heads=2, hidden_dim=E,
                               intermediate_dim=45, max_sequence_length=11))


@pytest.fixture
def written(model, tmp_path):
    """A function of a variant: the proto of its file."""
    def write(variant):
        file, = OnnxTarget().write(model, tmp_path, variant)
        return onnx.load(tmp_path / file)
    return write


def graph_of(nodes, tensors, x, width, variant, **options):
    """The proto of a variant of a graph from `x` (name, type, shape) to "y" (..., width)."""
    inputs, outputs = (onnx.helper.make_tensor_value_info(*value)
                       for value in (x, ("y", onnx.TensorProto.FLOAT, [None, width])))
    graph = onnx.helper.make_graph([onnx.helper.make_node(*node) for node in nodes], "g", [inputs], [outputs], [
        onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()])
    model = onnx_quantize.ir.from_proto(onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10))
    return onnx_quantize.ir.to_proto(onnx_quantize.quantize(model, variant, **options))


def answer(proto, x):
    return onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {proto.graph.input[0].name: x})[0]


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
    rows = np.random.default_rng(0).normal(size=(7, 96)).astype("float32")
    variant = next(name for name, each in onnx_quantize.BITS.items() if each == bits)
    proto = graph_of([("Gather", ["table", "ids"], ["y"])], {"table": np.tile(rows, (32, 1))},
                     ("ids", onnx.TensorProto.INT64, [None]), 96, variant)
    assert [node.op_type for node in proto.graph.node if node.op_type != "Reshape"] == ["GatherBlockQuantized"]
    found = answer(proto, np.arange(7))
    blocks = rows.reshape(7, 3, 32)
    spread = 2 * np.abs(blocks).max(-1) if bits == 8 else blocks.max(-1) - np.minimum(blocks.min(-1), 0)
    error = np.abs(found.reshape(7, 3, 32) - blocks).max(-1)
    assert (error <= spread * most * 1.05).all() and error.max() > spread.max() * most / 20


@pytest.mark.parametrize(("width", "size"), [(768, 128), (192, 64), (96, 32), (45, 128)])
def test_blocks_cut_rows_without_a_rest_where_they_can(width, size):
    weight = np.random.default_rng(0).normal(size=(width, 3)).astype("float32")
    proto = graph_of([("MatMul", ["x", "w"], ["y"])], {"w": weight}, ("x", onnx.TensorProto.FLOAT, [None, width]), 3,
                     "int4")
    (node,) = [node for node in proto.graph.node if node.op_type == "MatMulNBits"]
    assert {each.name: each.i for each in node.attribute}["block_size"] == size
    x = np.random.default_rng(1).normal(size=(5, width)).astype("float32")
    assert 0 < np.abs(answer(proto, x) - x @ weight).max() < 0.3 * np.ptp(x @ weight)


def test_half_precision_keeps_the_signature(written):
    proto, plain = written("fp16"), written("none")
    assert {array.dtype for array in arrays(proto).values() if array.dtype.kind == "f"} == {np.dtype("float16")}
    for side in ("input", "output"):
        assert [(value.name, value.type.tensor_type.elem_type) for value in getattr(proto.graph, side)] == [
            (value.name, value.type.tensor_type.elem_type) for value in getattr(plain.graph, side)]


def test_what_is_not_a_weight_stays(written):
    nodes = [node.op_type for node in written("int8").graph.node]
    assert nodes.count("MultiHeadAttention") == 1 and nodes.count("MatMul") == 0


@pytest.fixture(scope="module")
def encoder(redrawn):
    return redrawn(kzoo.create("bert-tiny", task="text-classification", labels=("a", "b", "c"), vocabulary_size=V,
                               num_layers=2, num_heads=2, hidden_dim=128, intermediate_dim=160,
                               max_sequence_length=11))


def kinds(model, folder):
    """How often each operator stands in each file of an int8 variant."""
    files = OnnxTarget().write(model, folder, "int8")
    return [collections.Counter(node.op_type for node in onnx.load(folder / file, load_external_data=False).graph.node)
            for file in files if file.endswith(".onnx")]


def test_whole_texts_go_through_products_of_integers(encoder, tmp_path):
    found, = kinds(encoder, tmp_path)
    # Queries, keys and values are one, but for the last layer, which has one query; the pooler.
    assert found["DynamicQuantizeMatMul"] == 4 * 2 + 1 + 1 and found["GatherBlockQuantized"] == 1
    assert found["MatMul"] == 0 and found["MultiHeadAttention"] == 2


def test_a_model_that_loses_too_much_goes_through_blocks(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model, "NEAR", 1e-9)
    found, = kinds(encoder, tmp_path)
    assert found["DynamicQuantizeMatMul"] == 0 and found["MatMulNBits"] == 4 * 2 + 1 + 2


def test_both_halves_of_a_translator_go_the_same_way(redrawn, tmp_path, monkeypatch):
    """The decoders share their weights, so what one does the other must."""
    model = redrawn(kzoo.create("transformer-tiny", task="translation", vocabulary_size=V, num_layers=1, num_heads=2,
                                hidden_dim=128, intermediate_dim=160, max_sequence_length=11))
    asked = []
    monkeypatch.setattr(onnx_model, "lost_by_integers", lambda *args: asked.append(lost(*args)) or asked[-1])
    encoder, prefill, decode, merged = kinds(model, tmp_path)
    assert 0 < asked[0] <= onnx_model.NEAR
    assert encoder["DynamicQuantizeMatMul"] == 4 and encoder["MatMul"] == 0
    assert prefill["DynamicQuantizeMatMul"] > decode["DynamicQuantizeMatMul"] == 6 and prefill["MatMul"] == 0
    assert decode["MatMulNBits"] == 1 and decode["MatMul"] == 0  # logits, read out with the table of ids
    monkeypatch.setattr(onnx_model, "lost_by_integers", lambda *args: onnx_model.NEAR * 1.01)
    for found in kinds(model, tmp_path):
        assert found["DynamicQuantizeMatMul"] == 0 and found["MatMulNBits"] >= 4


def test_a_product_of_integers_is_near_and_no_other():
    random = np.random.default_rng(0)
    weight, bias = random.normal(size=(192, 96)).astype("float32"), random.normal(size=96).astype("float32")
    proto = graph_of([("MatMul", ["x", "w"], ["p"]), ("Add", ["p", "b"], ["y"])], {"w": weight, "b": bias},
                     ("x", onnx.TensorProto.FLOAT, [None, 192]), 96, "int8", dynamic=True)
    (node,) = proto.graph.node
    assert node.op_type == "DynamicQuantizeMatMul" and arrays(proto)["w_integers"].dtype == np.int8
    x = random.normal(size=(7, 192)).astype("float32")
    expected = x @ weight + bias
    assert 0 < np.abs(answer(proto, x) - expected).max() < 0.02 * np.ptp(expected)
    scales = next(each for each in proto.graph.initializer if each.name == "w_integer_scales")
    scales.CopyFrom(onnx.numpy_helper.from_array(arrays(proto)[scales.name][::-1].copy(), scales.name))
    assert np.abs(answer(proto, x) - expected).max() > 0.05 * np.ptp(expected)

"""The graph rewrites: what they leave, and that they change no number."""
import collections

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper

from kzoo.checkpoint import variables_by_path
from kzoo.export import onnx_graph
from kzoo.export.onnx_model import convert_graph, place_weights
from kzoo.export.signatures import signatures, sizes_of

LAYERS = 2  # of the fixture `model`


@pytest.fixture(scope="module")
def converted(model):
    """The bytes of the converted graph with its weights, before any rewrite."""
    weights = variables_by_path(model)
    signature = signatures(model.task, "onnx", sizes_of(model.config))["decode"]
    graph = ir.from_proto(convert_graph(model, signature, weights))
    place_weights(graph.graph, {path: np.asarray(variable) for path, variable in weights.items()})
    return ir.to_proto(graph).SerializeToString()


@pytest.fixture
def graph(converted):
    return ir.from_proto(onnx.load_from_string(converted))


def counts(graph):
    return collections.Counter(node.op_type for node in graph.graph)


def outputs(graph, model):
    """What a graph says to a batch of two with a past of 3."""
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(3)
    heads, width = model.config.key_value_shape()
    feeds = {}
    for value in session.get_inputs():
        if "past" in value.name:
            feeds[value.name] = random.normal(size=(2, heads, 3, width)).astype("float32")
        elif "mask" in value.name:
            feeds[value.name] = np.ones((2, 8), "int64")
        elif "position" in value.name:
            feeds[value.name] = np.tile(np.arange(3, 8), (2, 1))
        else:
            feeds[value.name] = random.integers(0, model.config.vocabulary_size, (2, 5))
    return session.run(None, feeds)


def test_the_rewritten_graph_says_the_same(graph, converted, model):
    expected = outputs(graph, model)
    onnx_graph.clean(graph)
    for value, reference in zip(outputs(graph, model), expected, strict=True):
        np.testing.assert_allclose(value, reference, atol=1e-5 * np.ptp(reference))
    norm = next(node for node in graph.graph if node.op_type == "LayerNormalization")
    norm.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.5)
    assert np.abs(outputs(graph, model)[0] - expected[0]).max() > 1e-2  # a wrong fusion would show


def test_node_counts(graph):
    before = counts(graph)
    onnx_graph.clean(graph)
    after = counts(graph)
    assert after["LayerNormalization"] == 2 * LAYERS + 1
    assert after["Sqrt"] == after["ReduceMean"] == 0 < before["ReduceMean"]
    # Three cuts into heads and one back; no shape is computed for them.
    assert after["Reshape"] == 4 * LAYERS + 1
    assert after["Shape"] <= 2 and after["Slice"] <= 3
    assert after["MatMul"] == 8 * LAYERS + 1
    assert sum(after.values()) < 0.65 * sum(before.values())


def test_a_normalisation_over_another_axis_order_is_left_alone():
    # (x - mean) / sqrt(...) without a scale is not a layer norm: nothing to fuse, nothing to break.
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["mean"]),
             helper.make_node("Sub", ["x", "mean"], ["centred"]),
             helper.make_node("Mul", ["centred", "centred"], ["square"]),
             helper.make_node("ReduceMean", ["square", "axes"], ["variance"]),
             helper.make_node("Add", ["variance", "epsilon"], ["sum"]), helper.make_node("Sqrt", ["sum"], ["root"]),
             helper.make_node("Div", ["centred", "root"], ["y"])]
    proto = helper.make_model(helper.make_graph(
        nodes, "norm", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 5])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [-1]),
         helper.make_tensor("epsilon", TensorProto.FLOAT, [], [1e-5])]),
        opset_imports=[helper.make_opsetid("", 18)])
    graph = ir.from_proto(proto)
    onnx_graph.clean(graph)
    assert counts(graph)["LayerNormalization"] == 0 and counts(graph)["Div"] == 1

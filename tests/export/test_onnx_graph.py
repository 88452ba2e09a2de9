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
    signature = signatures(model.task, "onnx", sizes_of(model))["decode"]
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
    # Heads are cut and put together inside of the operator, which also appends to the past.
    assert after["MultiHeadAttention"] == LAYERS and after["Softmax"] == 0
    assert after["Reshape"] == 1 and after["Transpose"] == 1  # of positions, and of the table for the logits
    assert after["Shape"] <= 2 and after["Slice"] <= 3
    assert after["Gather"] == 3 and after["Where"] == 1  # ids go to their tables as they are
    assert after["MatMul"] == 4 * LAYERS + 1 and after["Split"] == LAYERS  # queries, keys and values are one product
    assert after["FastGelu"] == LAYERS and after["Tanh"] == after["Pow"] == 0
    assert sum(after.values()) <= 15 * LAYERS + 39 < 0.3 * sum(before.values())


def test_a_portable_graph_has_the_operators_of_the_standard_alone(graph, converted, model):
    expected = outputs(graph, model)
    onnx_graph.clean(graph, portable=True)
    after = counts(graph)
    assert {node.domain for node in graph.graph} == {""} and set(graph.opset_imports) <= {"", "ai.onnx.ml"}
    assert after["LayerNormalization"] == 2 * LAYERS + 1 and after["Softmax"] == after["Tanh"] == LAYERS
    for value, reference in zip(outputs(graph, model), expected, strict=True):
        np.testing.assert_allclose(value, reference, atol=1e-5 * np.ptp(reference))


def test_every_weight_is_stored_once(graph, model):
    onnx_graph.clean(graph)
    stored = sum(value.const_value.size for value in graph.graph.initializers.values())
    assert model.count_params() <= stored < model.count_params() + 200  # shapes and numbers
    assert any(name.count("+") == 2 for name in graph.graph.initializers)


def test_the_past_is_not_copied_before_the_new_is_appended(graph):
    onnx_graph.clean(graph)
    for value in graph.graph.inputs:
        if "past" in value.name:
            assert {use.node.op_type for use in value.uses()} <= {"MultiHeadAttention", "Shape"}, value.name


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


def gelu_graph(factor):
    """0.5 x (1 + tanh(factor (x + 0.044715 x^3)))."""
    numbers = {"half": 0.5, "one": 1.0, "three": 3.0, "cubic": 0.044715, "factor": factor}
    nodes = [("Pow", "x three cube"), ("Mul", "cubic cube scaled"), ("Add", "x scaled sum"),
             ("Mul", "factor sum inner"), ("Tanh", "inner curve"), ("Add", "one curve plus"),
             ("Mul", "half x half_x"), ("Mul", "half_x plus y")]
    return ir.from_proto(helper.make_model(helper.make_graph(
        [helper.make_node(kind, names.split()[:-1], names.split()[-1:]) for kind, names in nodes], "gelu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 5])],
        [helper.make_tensor(name, TensorProto.FLOAT, [], [number]) for name, number in numbers.items()]),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10))


def run(graph, **feeds):
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def test_gelu_is_known_by_its_numbers():
    x = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    graph = gelu_graph(0.7978845608)
    expected = run(graph, x=x)
    onnx_graph.clean(graph)
    assert counts(graph) == {"FastGelu": 1}
    np.testing.assert_allclose(run(graph, x=x), expected, atol=1e-6)
    other = gelu_graph(0.8)
    onnx_graph.clean(other)
    assert counts(other)["FastGelu"] == 0 and counts(other)["Tanh"] == 1


@pytest.mark.parametrize("biases, merged", [(("b", "c"), True), ((None, None), True), (("b", None), False)])
def test_products_of_one_input_are_merged_where_they_are_alike(biases, merged):
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(5, width)).astype("float32") for name, width in (("v", 2), ("w", 3))}
    weights.update(b=rng.normal(size=2).astype("float32"), c=rng.normal(size=3).astype("float32"))
    nodes = []
    for weight, bias, end in zip("vw", biases, ("first", "second"), strict=True):
        nodes.append(helper.make_node("MatMul", ["x", weight], [f"{end}_product"]))
        nodes.append(helper.make_node("Add", [f"{end}_product", bias], [f"{end}_sum"]) if bias else
                     helper.make_node("Identity", [f"{end}_product"], [f"{end}_sum"]))
        nodes.append(helper.make_node("Tanh", [f"{end}_sum"], [end]))
    graph = ir.from_proto(helper.make_model(helper.make_graph(
        nodes, "products", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 5])],
        [helper.make_tensor_value_info("first", TensorProto.FLOAT, [4, 2]),
         helper.make_tensor_value_info("second", TensorProto.FLOAT, [4, 3])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10))
    x = rng.normal(size=(4, 5)).astype("float32")
    onnx_graph.clean(graph)
    assert counts(graph)["MatMul"] == (1 if merged else 2)
    expected = x @ weights["v"] + (weights["b"] if biases[0] else 0)
    np.testing.assert_allclose(run(graph, x=x), np.tanh(expected), atol=1e-5)

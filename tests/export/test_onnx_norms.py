"""Residual norms: known by their parts, and left alone where the operator would say something else."""
import collections

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper

from kzoo.export import onnx_graph

B, T, E = 2, 3, 5
rng = np.random.default_rng(2)
WEIGHTS = {name: rng.normal(size=E).astype("float32") for name in ("scale", "shift", "bias")}
WEIGHTS.update({name: rng.normal(size=(E, E)).astype("float32") for name in ("first", "second", "table")})


def residual(norm, operand="a", shape=(B, T, E)):
    """x W1 + (x W2 + bias), normed, and the sum itself."""
    nodes = [helper.make_node("MatMul", ["x", "first"], ["a"]), helper.make_node("Gather", ["table", "row"], ["g"]),
             helper.make_node("MatMul", ["x", "second"], ["p"]), helper.make_node("Add", ["p", "bias"], ["b"]),
             helper.make_node("Add", [operand, "b"], ["sum"]), *norm]
    weights = {**WEIGHTS, "axes": np.array([-1]), "epsilon": np.float32(0.1), "row": np.array([[1, 2, 0]])}
    return ir.from_proto(helper.make_model(helper.make_graph(
        nodes, "norms", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("y", "sum")],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10))


RMS = [helper.make_node("Mul", ["sum", "sum"], ["square"]),
       helper.make_node("ReduceMean", ["square", "axes"], ["mean"]),
       helper.make_node("Add", ["mean", "epsilon"], ["m"]), helper.make_node("Sqrt", ["m"], ["root"]),
       helper.make_node("Reciprocal", ["root"], ["inverse"]),
       helper.make_node("Mul", ["sum", "inverse"], ["normed"]), helper.make_node("Mul", ["normed", "scale"], ["y"])]


def run(graph, x):
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def clean(graph):
    """What each operator occurs in the rewritten graph."""
    onnx_graph.clean(graph)
    return collections.Counter(node.op_type for node in graph.graph)


def test_an_rms_norm_takes_the_residual_sum_in():
    x = rng.normal(size=(B, T, E)).astype("float32")
    graph = residual(RMS)
    expected = run(graph, x)
    counts = clean(graph)
    assert counts["SkipSimplifiedLayerNormalization"] == counts["Add"] == 1 and counts["ReduceMean"] == 0
    for value, reference in zip(run(graph, x), expected, strict=True):  # the sum is given on as well
        np.testing.assert_allclose(value, reference, atol=1e-5)
    fused = next(node for node in graph.graph if node.op_type == "SkipSimplifiedLayerNormalization")
    fused.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.9)
    assert np.abs(run(graph, x)[0] - expected[0]).max() > 1e-2


def test_rows_of_a_table_may_be_one_for_all_and_stay_outside():
    """The operator wants two tensors of one shape; positions are often (1, T, E)."""
    x = rng.normal(size=(B, T, E)).astype("float32")
    graph = residual(RMS, operand="g")
    expected = run(graph, x)
    counts = clean(graph)
    assert counts["SkipSimplifiedLayerNormalization"] == 0
    np.testing.assert_allclose(run(graph, x)[0], expected[0], atol=1e-5)


def test_a_layer_norm_stays_apart_from_the_sum():
    graph = residual([helper.make_node("LayerNormalization", ["sum", "scale", "shift"], ["y"], axis=-1, epsilon=0.1)])
    assert clean(graph) == {"MatMul": 2, "Add": 2, "LayerNormalization": 1}


def test_another_square_is_no_rms_norm():
    graph = residual([helper.make_node("Mul", ["sum", "b"], ["square"]), *RMS[1:]])
    counts = clean(graph)
    assert counts["SkipSimplifiedLayerNormalization"] == 0 and counts["Reciprocal"] == 1

"""What a TFLite file consists of, beside what the interpreter says of it."""
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from kzoo.export.tflite_file import ALIGNMENT, Operator, Subgraph, Tensor, arena_size, read_tflite


@pytest.fixture(scope="module")
def path(exported):
    return exported[0] / "tflite/model.tflite"


@pytest.fixture(scope="module")
def graphs(path):
    return read_tflite(path)


def test_signatures_have_the_tensors_that_the_interpreter_sees(path, graphs):
    interpreter = Interpreter(model_path=str(path))
    assert {graph.name for graph in graphs} == set(interpreter.get_signature_list())
    for graph in graphs:
        details = interpreter.get_signature_runner(graph.name).get_input_details()
        expected = {(tuple(map(int, row["shape"])), np.dtype(row["dtype"]).name.upper()) for row in details.values()}
        assert {(graph.tensors[number].shape, graph.tensors[number].dtype) for number in graph.inputs} == expected
        assert not any(operator.is_custom for operator in graph.operators)
        assert {"FULLY_CONNECTED", "SOFTMAX"} <= {operator.kind for operator in graph.operators}


def test_the_arena_is_nearly_what_the_interpreter_takes(path, graphs):
    interpreter = Interpreter(
        model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    interpreter.allocate_tensors()
    values = {*graphs[0].inputs, *(number for each in graphs[0].operators for number in each.outputs)}
    covered = end = 0  # bytes on which at least one value lies
    for start, nbytes in sorted((interpreter.tensor(number)().__array_interface__["data"][0],
                                 graphs[0].tensors[number].nbytes) for number in values):
        covered += max(start + nbytes - max(start, end), 0)
        end = max(end, start + nbytes)
    assert 0.9 * covered < arena_size(graphs[0]) <= covered


def test_the_arena_holds_what_lives_together():
    sizes = {"input": 3, "weight": 1000, "first": 5, "second": 7, "output": 2}  # in tensors' alignment
    tensors = tuple(Tensor(name, "FLOAT32", (size * ALIGNMENT // 4,), False) for name, size in sizes.items())
    operators = (Operator("A", False, (0, 1), (2,)), Operator("B", False, (2,), (3,)), Operator("C", False, (3,), (4,)))
    graph = Subgraph("main", tensors, operators, (0,), (4,))
    assert arena_size(graph) == (3 + 5 + 7) * ALIGNMENT
    kept = graph._replace(operators=(*operators[:2], operators[2]._replace(inputs=(3, 2))))  # `first` is used again
    assert arena_size(kept) == (3 + 5 + 7 + 2) * ALIGNMENT
    assert arena_size(graph._replace(operators=(), outputs=(0,))) == 3 * ALIGNMENT


@pytest.mark.parametrize(("dtype", "shape", "nbytes"), [
    ("FLOAT32", (2, 3), 24), ("INT8", (5,), 5), ("INT4", (5,), 3), ("BOOL", (7,), 7), ("INT64", (), 8),
    ("FLOAT32", (1, -1, 3), 12), ("STRING", (4,), 0)])
def test_bytes_of_a_tensor(dtype, shape, nbytes):
    assert Tensor("x", dtype, shape, False).nbytes == nbytes


def test_what_is_no_such_file_is_refused(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"PK" * 100)
    with pytest.raises(ValueError, match="model.tflite is no TFLite file"):
        read_tflite(tmp_path / "model.tflite")

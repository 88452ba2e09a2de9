"""Hints on delegates."""
from kzoo.export.delegates import left_over
from kzoo.export.tflite_file import Operator, Subgraph, Tensor


def test_operators_are_left_by_kind_and_type():
    tensors = tuple(Tensor(dtype, dtype, (2,), False) for dtype in ("FLOAT32", "INT32", "INT8"))
    operators = tuple(Operator(kind, False, (), (number,)) for kind, number in (
        ("ADD", 0), ("ADD", 1), ("ADD", 1), ("ADD", 2), ("GATHER", 0), ("WHERE", 1)))
    graphs = [Subgraph(name, tensors, operators, (), ()) for name in ("prefill", "decode")]
    assert left_over(graphs) == {"xnnpack": {"ADD (INT32)": 4, "GATHER": 2, "WHERE": 2}, "gpu": {"WHERE": 2}}
    assert left_over([]) == {"xnnpack": {}, "gpu": {}}

"""Normalisation of a converted graph as one operator.

The sum before a LayerNormalization stays a node of its own: ONNX Runtime's SkipLayerNormalization, which takes it in,
is slower than the two on processors: 0.27 ms for 128 rows of BERT-base, where they take 0.08 ms.
"""
import onnx_ir as ir

from kzoo.export.audit import CONTRIB
from kzoo.export.onnx_nodes import array_of, insert, is_vector, made_by, only_use, other, replace


def fuse_layer_normalization(graph, divide):
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias becomes LayerNormalization (opset 17)."""
    centred, root = divide.inputs
    subtract, (_, epsilon) = made_by(centred, "Sub"), _root_of_mean(root)
    scaled = only_use(divide.outputs[0], "Mul")
    if subtract is None or epsilon is None or scaled is None:
        return
    scale = other(scaled, divide.outputs[0])
    shifted = only_use(scaled.outputs[0], "Add")
    bias = None if shifted is None else other(shifted, scaled.outputs[0])
    if bias is not None and not is_vector(bias):
        shifted, bias = None, None  # an addition that belongs to something else
    fused = ir.node("LayerNormalization", [subtract.inputs[0], scale, *([bias] if bias is not None else [])],
                    attributes={"axis": -1, "epsilon": epsilon, "stash_type": 1})
    insert(graph, shifted or scaled, fused)


def fuse_residual_rms_norm(graph, reciprocal):
    """(x + y) / sqrt(mean((x + y)^2) + epsilon) * scale becomes SkipSimplifiedLayerNormalization.

    The norm without a residual stays in parts, which ONNX Runtime joins when it opens the file: the operator for it is
    in no standard of opset 18.
    """
    mean, epsilon = _root_of_mean(reciprocal.inputs[0])
    divided = only_use(reciprocal.outputs[0], "Mul")
    if mean is None or epsilon is None or divided is None:
        return
    x = other(divided, reciprocal.outputs[0])
    scaled, sums = only_use(divided.outputs[0], "Mul"), made_by(x, "Add")
    if scaled is None or sums is None or not _is_square(mean.inputs[0], x):
        return
    scale = other(scaled, divided.outputs[0])
    if is_vector(scale):
        _with_skip(graph, sums, scaled, scale, epsilon)


def _root_of_mean(value):
    """(the ReduceMean, epsilon) behind sqrt(mean(...) + epsilon); None for what is something else."""
    root = made_by(value, "Sqrt")
    add = None if root is None else made_by(root.inputs[0], "Add")
    if add is None:
        return None, None
    epsilon = next((array for array in map(array_of, add.inputs) if array is not None), None)
    mean = next((node for node in (made_by(each, "ReduceMean") for each in add.inputs) if node is not None), None)
    return mean, float(epsilon.reshape(())) if epsilon is not None and epsilon.size == 1 else None


def _with_skip(graph, sums, end, scale, epsilon):
    """Put one node in the place of the Add `sums` and of the norm that ends with the node `end`."""
    # Both are (B, T, E): a table's rows may be one for all of a batch, which the operator does not repeat.
    if any(each.producer() is None or each.producer().op_type == "Gather" for each in sums.inputs):
        return
    fused = ir.node("SkipSimplifiedLayerNormalization", [*sums.inputs, scale], domain=CONTRIB, num_outputs=4,
                    attributes={"epsilon": epsilon})
    result, total = sums.outputs[0].name, end.outputs[0].name
    for output, name in zip(fused.outputs, (f"{total}_norm", "", "", f"{result}_sum"), strict=True):
        output.name = name
    graph.insert_after(end, fused)
    replace(end.outputs[0], fused.outputs[0])
    replace(sums.outputs[0], fused.outputs[3])


def _is_square(value, x):
    node = made_by(value, "Mul")
    return node is not None and list(node.inputs) == [x, x]

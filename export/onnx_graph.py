"""Rewrites of a converted ONNX graph, with onnx-ir: fewer nodes, the same numbers.

Each rewrite looks for one shape of subgraph that the layers are known to make and leaves everything else alone; the
verification after the export would notice a wrong one.
"""
import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common


def clean(model):
    """All rewrites, then what they left unused."""
    common.IdentityEliminationPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    for node in list(model.graph):
        if node.op_type == "Reshape" and node.graph is not None:
            keep_leading_axes(model.graph, node)
    for node in list(model.graph):
        if node.op_type == "Div" and node.graph is not None:
            fuse_layer_normalization(model.graph, node)
    common.RemoveUnusedNodesPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)


def keep_leading_axes(graph, node):
    """Undo the detour of `kzoo.layers.projection.project` over rows.

    (B, T, E) -> rows (B * T, E) -> MatMul [-> Add] -> (B, T, ...), the last by a shape computed in the graph, becomes
    the same products on the three axes; what is left to cut the last axis keeps the leading ones by zeros.
    """
    target = _computed_shape(node)
    if target is None:
        return
    value = node.inputs[0]
    if value.producer() is not None and value.producer().op_type == "Transpose":  # (B, T, H, D) from attention
        _reshape_last(graph, node, target)
        return
    chain = _row_products(value)
    if chain is None:
        return
    rows = chain[-1].inputs[0].producer()   # the Reshape to rows
    chain[-1].replace_input_with(0, rows.inputs[0])
    if len(target) == 1:
        _replace(node.outputs[0], node.inputs[0])
    else:
        _reshape_last(graph, node, target)


def _reshape_last(graph, node, sizes):
    """Let a Reshape keep the two leading axes, whatever they are, and cut the rest into `sizes`."""
    shape = np.array([0, 0, *sizes], "int64")  # 0 = as the input
    name = f"{node.outputs[0].name}_shape"
    value = ir.Value(name=name, shape=ir.Shape(shape.shape), type=ir.TensorType(ir.DataType.INT64),
                     const_value=ir.tensor(shape, name=name))
    graph.initializers[name] = value
    node.replace_input_with(1, value)


def fuse_layer_normalization(graph, divide):
    """(x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias becomes LayerNormalization (opset 17)."""
    centred, root = divide.inputs
    subtract, root = centred.producer(), root.producer()
    if subtract is None or subtract.op_type != "Sub" or root is None or root.op_type != "Sqrt":
        return
    add = root.inputs[0].producer()
    if add is None or add.op_type != "Add":
        return
    epsilon = next((array for array in map(_array, add.inputs) if array is not None), None)
    scaled = _only_use(divide.outputs[0], "Mul")
    if epsilon is None or epsilon.size != 1 or scaled is None:
        return
    scale = _other(scaled, divide.outputs[0])
    shifted = _only_use(scaled.outputs[0], "Add")
    bias = None if shifted is None else _other(shifted, scaled.outputs[0])
    if bias is not None and (bias.producer() is not None or len(bias.shape or (0, 0)) != 1):
        shifted, bias = None, None  # an addition that belongs to something else
    end = (shifted or scaled).outputs[0]
    fused = ir.node("LayerNormalization", [subtract.inputs[0], scale, *([bias] if bias is not None else [])],
                    attributes={"axis": -1, "epsilon": float(epsilon.reshape(())), "stash_type": 1})
    fused.outputs[0].name = f"{end.name}_norm"
    graph.insert_after(end.producer(), fused)
    _replace(end, fused.outputs[0])


def _computed_shape(node):
    """The constants behind (-1, computed, ...) in a Reshape's shape; None for any other shape."""
    producer = node.inputs[1].producer()
    if producer is not None and producer.op_type == "Cast":
        producer = producer.inputs[0].producer()
    if producer is None or producer.op_type != "Concat" or len(producer.inputs) < 3:
        return None
    sizes = [_array(value) for value in producer.inputs]
    if sizes[0] is None or int(sizes[0].reshape(-1)[0]) != -1 or sizes[1] is not None or None in [
            None if size is None else 0 for size in sizes[2:]]:
        return None
    return [int(size.reshape(-1)[0]) for size in sizes[2:]]


def _row_products(value):
    """[..., MatMul] from `value` up to a MatMul of rows, with at most an Add of a weight between; None if not so."""
    chain = []
    node = value.producer()
    if node is not None and node.op_type == "Add":
        if len([x for x in node.inputs if x.producer() is None]) != 1:
            return None
        chain.append(node)
        node = next(x for x in node.inputs if x.producer() is not None).producer()
    if node is None or node.op_type != "MatMul":
        return None
    rows = node.inputs[0].producer()
    if rows is None or rows.op_type != "Reshape":
        return None
    shape = _array(rows.inputs[1])
    if shape is None or shape.size != 2 or shape[0] != -1:
        return None
    return [*chain, node]


def _array(value):
    """The constant behind a value, or None."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def _only_use(value, op_type):
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and uses[0].node.op_type == op_type else None


def _other(node, value):
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _replace(old, new):
    """Let every user of `old`, the graph's outputs included, use `new`; an output keeps its name."""
    if old.is_graph_output():
        name = old.name
        old.name = f"{name}_replaced"
        new.name, new.shape, new.type = name, old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)

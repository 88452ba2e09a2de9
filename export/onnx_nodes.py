"""Small steps on an onnx-ir graph that every rewrite takes."""
import onnx_ir as ir


def constant(graph, name, array):
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.tensor(array).dtype),
                     const_value=ir.tensor(array, name=name))
    graph.initializers[name] = value
    return value


def array_of(value):
    """The constant behind a value, or None."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def is_vector(value):
    """Whether a value is a constant of one axis."""
    return value.const_value is not None and len(value.shape) == 1


def made_by(value, op_type):
    """The node that makes a value, or None if it is of another type or there is none."""
    node = value.producer()
    return node if node is not None and node.op_type == op_type else None


def only_use(value, op_type):
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and uses[0].node.op_type == op_type else None


def other(node, value):
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def insert(graph, last, fused, end=None):
    """Put `fused` after `last` and in the place of the nodes that make `end`; None means the output of `last`."""
    end = last.outputs[0] if end is None else end
    fused.outputs[0].name = f"{end.name}_fused"
    graph.insert_after(last, fused)
    replace(end, fused.outputs[0])


def replace(old, new):
    """Let every user of `old`, the graph's outputs included, use `new`; an output keeps its name."""
    if old.is_graph_output():
        name = old.name
        old.name = f"{name}_replaced"
        new.name, new.shape, new.type = name, old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)

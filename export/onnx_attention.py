"""Attention of a converted graph as one operator: ONNX Runtime's MultiHeadAttention.

softmax(hide(q k^T * scale + bias)) v, with heads cut out before and put together after, and perhaps a past that is
appended to, is a dozen nodes a layer; a step of a decoder with one token is mostly the price of starting nodes.
Anything between the projections and the products (rotations, shared key heads) keeps its own nodes.
"""
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from kzoo.export.audit import CONTRIB
from kzoo.export.onnx_nodes import array_of, constant, made_by, only_use, other, replace

HEADS_FIRST = [0, 2, 1, 3]
MASKED = -1e9  # as in kzoo.layers.attention_function


class _Side(NamedTuple):
    """Keys or values: (B, T, E), or (B, H, S, D) as a graph's input; a past (B, H, P, D) and the two joined."""
    new: ir.Value
    past: ir.Value | None = None
    joined: ir.Value | None = None


def fuse_attention(graph, softmax):
    """Replace the nodes around one softmax, if they are those of attention between projections."""
    product, hidden, bias = _scores(softmax.inputs[0])
    mix = only_use(softmax.outputs[0], "MatMul")
    if product is None or mix is None:
        return
    query, heads, scale, alone = _query(product.inputs[0])
    key, value = _keys(product.inputs[1]), _side(mix.inputs[1])
    if query is None or key is None or value is None or (key.past is None) != (value.past is None):
        return
    if alone:
        if key.past is None and only_use(mix.outputs[0], "Reshape") is not None:
            _fuse_one_query(graph, softmax, mix, query, key, value, hidden, bias, heads, scale)
        return
    back = only_use(mix.outputs[0], "Transpose")
    whole = None if back is None or _perm(back) != HEADS_FIRST else only_use(back.outputs[0], "Reshape")
    if whole is None or len(_sizes(whole)) != 3:
        return
    added = _added_to_scores(graph, softmax, query, hidden, bias, whole_rows=key.past is None)
    inputs = [query, key.new, value.new, None, None, added, key.past, value.past]
    fused = ir.node("MultiHeadAttention", inputs, domain=CONTRIB, num_outputs=1 if key.past is None else 3,
                    attributes={"num_heads": heads, "scale": scale})
    for part, output in zip(("all", "keys", "values"), fused.outputs, strict=False):
        output.name = f"{whole.outputs[0].name}_{part}"
    graph.insert_after(whole, fused)
    for old, new in zip((whole.outputs[0], key.joined, value.joined), fused.outputs, strict=False):
        replace(old, new)


def _fuse_one_query(graph, softmax, mix, query, key, value, hidden, bias, heads, scale):
    """The same for one query a row, (B, E): its heads are cut out and put together by reshapes alone."""
    width = constant(graph, f"{query.name}_one_query", np.array([0, 1, -1], "int64"))
    one = ir.node("Reshape", [query, width])
    added = _added_to_scores(graph, softmax, query, hidden, bias, whole_rows=False)
    fused = ir.node("MultiHeadAttention", [one.outputs[0], key.new, value.new, None, None, added], domain=CONTRIB,
                    attributes={"num_heads": heads, "scale": scale})
    for node, name in ((one, "one_query"), (fused, "all")):
        node.outputs[0].name = f"{mix.outputs[0].name}_{name}"
    graph.insert_after(mix, [one, fused])
    replace(mix.outputs[0], fused.outputs[0])


def _scores(value):
    """(the MatMul of the scores, what hides: 0 or MASKED, the bias) behind what softmax takes; None for what is not.

    where(mask, scores, MASKED) is cast(mask) * scores + cast(not mask) * MASKED in the file. The second term, added to
    all scores, hides as well: a score vanishes beside MASKED in float32.
    """
    hidden = None
    add = made_by(value, "Add")
    for kept, hides in (add.inputs, add.inputs[::-1]) if add is not None else ():
        kept_node, hides_node = made_by(kept, "Mul"), made_by(hides, "Mul")
        if kept_node is None or hides_node is None or not any(map(_is_masked, hides_node.inputs)):
            continue
        scores = [each for each in kept_node.inputs if each.producer() is not None and made_by(each, "Cast") is None]
        if len(scores) == 1:
            value, hidden = scores[0], hides
            break
    bias = None
    add = made_by(value, "Add")
    for scores, more in (add.inputs, add.inputs[::-1]) if add is not None else ():
        if made_by(scores, "MatMul") is not None:
            value, bias = scores, more
    return made_by(value, "MatMul"), hidden, bias


def _added_to_scores(graph, softmax, query, hidden, bias, whole_rows):
    """What the operator adds to the scores, (B or 1, H or 1, T, S); None for nothing.

    Args:
        whole_rows: what hides may be the same for all queries, (B, 1, 1, S), and has to be repeated for each.
    """
    if hidden is not None and whole_rows:
        hidden = _for_every_query(graph, softmax, query, hidden)
    if hidden is None or bias is None:
        return bias if hidden is None else hidden
    both = ir.node("Add", [hidden, bias])
    both.outputs[0].name = f"{softmax.outputs[0].name}_added"
    graph.insert_before(softmax, both)
    return both.outputs[0]


def _for_every_query(graph, softmax, query, hidden):
    """What hides, (B, 1, 1 or T, S), as (B, 1, T, S); repeated once for all the layers that share it."""
    repeated = next((use.node for use in hidden.uses() if use.node.op_type == "Expand"), None)
    if repeated is None:
        length = ir.node("Shape", [query], attributes={"start": 1, "end": 2})
        one = constant(graph, f"{hidden.name}_one", np.array([1], "int64"))
        rows = ir.node("Concat", [one, one, length.outputs[0], one], attributes={"axis": 0})
        repeated = ir.node("Expand", [hidden, rows.outputs[0]])
        for node, name in ((length, "length"), (rows, "rows"), (repeated, "repeated")):
            node.outputs[0].name = f"{softmax.outputs[0].name}_{name}"
        graph.insert_before(softmax, [length, rows, repeated])
    return repeated.outputs[0]


def _is_masked(value):
    array = array_of(value)
    return array is not None and array.size == 1 and float(array.reshape(())) == np.float32(MASKED)


def _query(value):
    """((B, T, E), number of heads, scale, False) behind q (B, H, T, D); None for the first where it is something else.

    Of a single query the heads are turned to the front by a reshape: then ((B, E), number of heads, scale, True).
    """
    scale, turned, alone = 1.0, False, False
    for _ in range(3):
        node = value.producer()
        if node is None:
            break
        if node.op_type == "Mul":
            factors = [(array_of(each), each) for each in node.inputs]
            number = next((each for each in factors if each[0] is not None and each[0].size == 1), None)
            if number is None:
                break
            scale *= float(number[0].reshape(()))
            value = other(node, number[1])
        elif node.op_type == "Transpose" and _perm(node) == HEADS_FIRST and not turned:
            value, turned = node.inputs[0], True
        elif node.op_type == "Reshape" and turned and _sizes(node)[:2] == ([-1, 1] if alone else [0, 0]):
            return node.inputs[0], _sizes(node)[2], scale, alone  # not a reshape that cuts rows into blocks
        elif node.op_type == "Reshape" and not turned and _sizes(node)[::2] == [-1, 1] and len(_sizes(node)) == 4:
            value, turned, alone = node.inputs[0], True, True
        else:
            break
    return None, None, None, False


def _keys(turned):
    """The `_Side` behind k^T (B, H, D, S)."""
    node = made_by(turned, "Transpose")
    if node is not None and _perm(node) == [0, 2, 3, 1]:
        return _cut(node.inputs[0])
    return _side(node.inputs[0]) if node is not None and _perm(node) == [0, 1, 3, 2] else None


def _side(value):
    """The `_Side` behind (B, H, S, D); None where it is something else."""
    if value.is_graph_input():
        return _Side(value)
    concat = made_by(value, "Concat")
    if concat is None:
        turned = made_by(value, "Transpose")
        return _cut(turned.inputs[0]) if turned is not None and _perm(turned) == HEADS_FIRST else None
    if len(concat.inputs) != 2 or concat.inputs[0].producer() is not None:
        return None
    new = _side(concat.inputs[1])
    return None if new is None or new.past is not None else _Side(new.new, concat.inputs[0], value)


def _cut(value):
    """The `_Side` of a (B, S, E) from which heads (B, S, H, D) are cut."""
    cut = made_by(value, "Reshape")
    return _Side(cut.inputs[0]) if cut is not None and len(_sizes(cut)) == 4 else None


def _perm(node):
    return list(node.attributes["perm"].as_ints()) if node.op_type == "Transpose" else None


def _sizes(node):
    """The constant shape of a Reshape, or an empty list."""
    array = array_of(node.inputs[1])
    return [] if array is None else array.tolist()

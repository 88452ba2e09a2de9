"""Attention of a converted graph as one operator: ONNX Runtime's MultiHeadAttention, with the past in and out.

softmax(mask(q k^T * scale)) v, with heads cut out before and put together after, and a past that is appended to, is a
dozen nodes a layer; a step of a decoder with one token is mostly the price of starting nodes. Anything between the
projections and the products (rotations, shared key heads) keeps its own nodes.
"""
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from kzoo.export.onnx_nodes import CONTRIB, array_of, only_use, other, replace

HEADS_FIRST = [0, 2, 1, 3]
MASKED = -1e9  # as in kzoo.layers.attention_function


class _Side(NamedTuple):
    """Keys or values: of this call (B, T, E), the past (B, H, P, D) before them, and both together."""
    new: ir.Value
    past: ir.Value
    joined: ir.Value


def fuse_attention(graph, softmax):
    """Replace the nodes around one softmax, if they are those of causal attention with a past."""
    product, bias = _masked_scores(softmax.inputs[0].producer())
    mix = only_use(softmax.outputs[0], "MatMul")
    if product is None or mix is None:
        return
    query, heads, scale = _query(product.inputs[0])
    turned = product.inputs[1].producer()
    if query is None or turned is None or _perm(turned) != [0, 1, 3, 2]:
        return
    key, value = _side(turned.inputs[0]), _side(mix.inputs[1])
    back = only_use(mix.outputs[0], "Transpose")
    if key is None or value is None or back is None or _perm(back) != HEADS_FIRST:
        return
    whole = only_use(back.outputs[0], "Reshape")
    if whole is None or len(_sizes(whole)) != 3:
        return
    inputs = [query, key.new, value.new, None, None, bias, key.past, value.past]
    fused = ir.node("MultiHeadAttention", inputs, domain=CONTRIB, num_outputs=3,
                    attributes={"num_heads": heads, "scale": scale})
    for part, output in zip(("all", "keys", "values"), fused.outputs, strict=True):
        output.name = f"{whole.outputs[0].name}_{part}"
    graph.insert_after(whole, fused)
    for old, new in zip((whole.outputs[0], key.joined, value.joined), fused.outputs, strict=True):
        replace(old, new)


def _masked_scores(add):
    """(the MatMul of the scores, what hides: 0 or MASKED) behind the converter's form of a choice between numbers.

    where(mask, scores, MASKED) is cast(mask) * scores + cast(not mask) * MASKED in the file. The second term, added to
    all scores, hides as well: a score vanishes beside MASKED in float32.
    """
    if add is None or add.op_type != "Add":
        return None, None
    for kept, hidden in (add.inputs, add.inputs[::-1]):
        kept_node, hidden_node = kept.producer(), hidden.producer()
        if kept_node is None or hidden_node is None or (kept_node.op_type, hidden_node.op_type) != ("Mul", "Mul"):
            continue
        if not any(_is_masked(each) for each in hidden_node.inputs):
            continue
        products = [each.producer() for each in kept_node.inputs if each.producer() is not None]
        product = next((node for node in products if node.op_type == "MatMul"), None)
        if product is not None and any(node.op_type == "Cast" for node in products):
            return product, hidden
    return None, None


def _is_masked(value):
    array = array_of(value)
    return array is not None and array.size == 1 and float(array.reshape(())) == np.float32(MASKED)


def _query(value):
    """((B, T, E), number of heads, scale) behind q (B, H, T, D); None for the first where it is something else."""
    scale = 1.0
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
        elif node.op_type == "Transpose" and _perm(node) == HEADS_FIRST:
            value = node.inputs[0]
        elif node.op_type == "Reshape" and len(_sizes(node)) == 4:
            return node.inputs[0], _sizes(node)[2], scale
        else:
            break
    return None, None, None


def _side(joined):
    """The `_Side` behind Concat(past, new (B, H, T, D)); None where it is something else."""
    concat = joined.producer()
    if concat is None or concat.op_type != "Concat" or len(concat.inputs) != 2:
        return None
    past, new = concat.inputs
    turned = new.producer()
    if past.producer() is not None or turned is None or _perm(turned) != HEADS_FIRST:
        return None
    cut = turned.inputs[0].producer()
    if cut is None or cut.op_type != "Reshape" or len(_sizes(cut)) != 4:
        return None
    return _Side(cut.inputs[0], past, joined)


def _perm(node):
    return list(node.attributes["perm"].as_ints()) if node.op_type == "Transpose" else None


def _sizes(node):
    """The constant shape of a Reshape, or an empty list."""
    array = array_of(node.inputs[1])
    return [] if array is None else array.tolist()

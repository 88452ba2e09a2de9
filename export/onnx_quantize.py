"""Weights of an ONNX graph in few bits, or in half precision.

Matrices are cut into blocks along the axis that a product sums over; every block has a scale, and with 4 bits a zero
point. The products are ONNX Runtime's MatMulNBits, which also rounds what comes in to 8 bits, tables are read by its
GatherBlockQuantized; a table that also reads out logits is stored once for both.

Where many tokens are read at once, products of 8-bit integers are faster than those: DynamicQuantizeMatMul, with a
scale for each column of the weights and one for all that comes in, which is less exact.

Sources: Frantar et al. 2022, section 2 (arXiv 2210.17323) call the first round-to-nearest, in groups; Zafrir et al.
2019, section 2 (arXiv 1910.06188) do the second to BERT.
"""
import math
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, DefaultWeightOnlyQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

from kzoo.export.audit import CONTRIB
from kzoo.export.onnx_nodes import array_of, constant, insert, is_vector, only_use, other

BITS = {"int8": 8, "int4": 4}
# Weights of a block: the largest that cuts a row into whole blocks, else the first, whose last one is filled up. With 4
# bits, blocks of 128 decode 1.13 times as fast as those of 64; a small GPT-2 lost 1.2 % of perplexity, with 64 1.0 %.
BLOCKS = (128, 64, 32)
SMALLEST_TABLE = 2**14  # numbers; what is smaller stays as it is


def quantize(model, variant, dynamic=False):
    """The graph of a variant.

    Args:
        model: an `onnx_ir.Model`, which may be changed.
        variant: "none", "fp16", or a key of `BITS`.
        dynamic: with 8 bits, products of integers.
    """
    if variant == "none":
        return model
    if variant == "fp16":  # inputs and outputs stay float32, so that all variants have the same signatures
        model = ir.from_proto(convert_float_to_float16(ir.to_proto(model), keep_io_types=True))
        common.TopologicalSortPass()(model)
        return model
    graph, packed, bits = model.graph, {}, BITS[variant]
    for node in list(graph):
        if node.domain:
            continue
        if node.op_type == "MatMul" and not (dynamic and bits == 8 and _integer_product(graph, node, packed)):
            _product(graph, node, packed, bits)
        elif node.op_type == "Gather":
            _lookup(graph, node, packed, bits)
    common.RemoveUnusedNodesPass()(model)  # transposed tables, and weights that are packed now
    graph.opset_imports[CONTRIB] = 1
    return model


class _Packed(NamedTuple):
    """A matrix (N, K) in blocks along K: initializers."""
    data: ir.Value    # uint8 (N, blocks * bytes of a block)
    blocks: ir.Value  # the same as (N, blocks, bytes of a block)
    scales: ir.Value  # float32 (N, blocks)
    zero_points: list


def _block_size(length):
    return next((size for size in BLOCKS if length % size == 0), BLOCKS[0])


def _pack(graph, packed, name, rows, bits):
    """The packed form of `rows` (N, K), made once for each name."""
    if name not in packed:
        block_size = _block_size(rows.shape[1])
        quantizer = DefaultWeightOnlyQuantizer(DefaultWeightOnlyQuantConfig(
            block_size=block_size, is_symmetric=bits == 8, bits=bits))
        data, scales, zero_points = quantizer.qbits_block_quant(np.ascontiguousarray(rows.T))
        scales = scales.reshape(len(rows), -1)
        flat = constant(graph, f"{name}_{bits}bits", data.reshape(len(rows), -1))
        shape = constant(graph, f"{name}_blocks", np.array(data.shape, "int64"))
        view = ir.node("Reshape", [flat, shape])  # folded when the file is opened
        view.outputs[0].name = f"{name}_view"
        graph.insert_before(graph[0], view)
        extra = [] if bits == 8 else [constant(graph, f"{name}_zero_points", zero_points.reshape(len(rows), -1))]
        packed[name] = _Packed(flat, view.outputs[0], constant(graph, f"{name}_scales", scales), extra)
    return packed[name]


def _product(graph, node, packed, bits):
    """x W or x W + b becomes MatMulNBits."""
    found = _matrix(node.inputs[1])
    if found is None:
        return
    name, rows = found
    weight = _pack(graph, packed, name, rows, bits)
    zero_points = weight.zero_points or [None]
    last, bias = _with_bias(node)
    insert(graph, last, ir.node(
        "MatMulNBits", [node.inputs[0], weight.blocks, weight.scales, *zero_points, *([None, bias] if bias else [])],
        domain=CONTRIB,
        attributes={"K": rows.shape[1], "N": rows.shape[0], "bits": bits, "block_size": _block_size(rows.shape[1]),
                    "accuracy_level": 4}))


def _integer_product(graph, node, packed):
    """x W or x W + b becomes DynamicQuantizeMatMul; whether it could: W may not be a table of ids, nor tiny."""
    matrix = array_of(node.inputs[1])
    if matrix is None or matrix.ndim != 2 or matrix.size < SMALLEST_TABLE:
        return False
    name = node.inputs[1].name
    if (name, "integers") not in packed:
        scales = np.maximum(np.abs(matrix).max(axis=0) / 127, np.finfo("float32").tiny).astype("float32")  # (N,)
        integers = np.clip(np.rint(matrix / scales), -127, 127).astype("int8")
        packed[name, "integers"] = (constant(graph, f"{name}_integers", integers),
                                    constant(graph, f"{name}_integer_scales", scales))
    last, bias = _with_bias(node)
    inputs = [node.inputs[0], *packed[name, "integers"], None, *([bias] if bias else [])]
    insert(graph, last, ir.node("DynamicQuantizeMatMul", inputs, domain=CONTRIB))
    return True


def _with_bias(node):
    """(the Add of a vector to a product, the vector); (the product, None) where there is none."""
    add = only_use(node.outputs[0], "Add")
    bias = None if add is None else other(add, node.outputs[0])
    return (add, bias) if bias is not None and is_vector(bias) else (node, None)


def _matrix(value):
    """(name, rows (N, K)) of a constant matrix (K, N), or of the transpose of a table (N, K); None for others."""
    transpose = value.producer()
    if transpose is not None and transpose.op_type == "Transpose":
        table = array_of(transpose.inputs[0])
        return None if table is None or table.ndim != 2 else (transpose.inputs[0].name, table)
    matrix = array_of(value)
    return None if matrix is None or matrix.ndim != 2 else (value.name, matrix.T)


def _lookup(graph, node, packed, bits):
    """Rows of a table become GatherBlockQuantized."""
    table = array_of(node.inputs[0])
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    if table is None or table.ndim != 2 or axis != 0 or table.dtype != np.float32 or (
            math.prod(table.shape) < SMALLEST_TABLE) or table.shape[1] % _block_size(table.shape[1]):
        return
    weight = _pack(graph, packed, node.inputs[0].name, table, bits)
    insert(graph, node, ir.node(
        "GatherBlockQuantized", [weight.data, node.inputs[1], weight.scales, *weight.zero_points], domain=CONTRIB,
        attributes={"bits": bits, "block_size": _block_size(table.shape[1]), "gather_axis": 0, "quantize_axis": 1}))

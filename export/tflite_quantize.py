"""Weights of a TFLite file in few bits or in half precision, and arithmetic in 8 bits, by ai-edge-quantizer.

A table that is read by token ids and also reads out logits must be stored once: the quantizer knows how to read rows of
packed tables by EMBEDDING_LOOKUP but not by GATHER, which is what converters write, so those are replaced first.

Weights of 8 bits have a scale for each row, those of 4 bits one for each block of a row; products round what comes in
to 8 bits, with a scale for each token. "int8_full" computes everything in 8 bits, with scales that come from samples,
as chips without floating point need it.

Source: Jacob et al. 2018, sections 2 and 3 (arXiv 1712.05877).
"""
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import quantizer
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.qtyping import QuantGranularity, TFLOperationName

from kzoo.layers.attention_function import MASKED_SCORE

SMALLEST_TABLE = 2**14  # numbers; what is smaller stays as it is
# Weights of a block of 4 bits that LiteRT has kernels for. Those of 64 decode a quarter faster than those of 32.
BLOCKS = (64, 32)
EVERYWHERE = ".*"
SELECTS = {schema.BuiltinOperator.SELECT, schema.BuiltinOperator.SELECT_V2}
FULL = "int8_full"
# What a hidden score lies below the lowest real one where all are of 8 bits: e^-12 is no weight, and the scale of the
# scores stays fine.
HIDDEN_BELOW = 12.0


def quantize(content, variant, samples=None, threads=None):
    """The file of a variant.

    Args:
        content: bytes of a TFLite file in float32.
        variant: a key of `RECIPES`.
        samples: for "int8_full", signature -> list of its inputs by the file's names, as arrays.
        threads: for reading samples; None means one.

    Returns: bytes.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    look_up_tables(model)
    work, ranges = _prepare(model, variant), None
    if work.need_calibration:
        part_small_constants(model)
        ranges = work.calibrate(samples, num_threads=threads or 1)
        hide_within_range(model, ranges)
        work = _prepare(model, variant)
    del model
    return bytes(work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model)


def _prepare(model, variant):
    work = quantizer.Quantizer(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    RECIPES[variant](work, row_lengths(model))
    return work


def _half_precision(work, _):
    work.add_weight_only_config(EVERYWHERE, TFLOperationName.ALL_SUPPORTED, num_bits=16,
                                algorithm_key=AlgorithmName.FLOAT_CASTING)


def _eight_bits(work, _):
    work.add_dynamic_config(EVERYWHERE, TFLOperationName.ALL_SUPPORTED, num_bits=8,
                            granularity=QuantGranularity.CHANNELWISE)


def _four_bits(work, lengths):
    block = next((size for size in BLOCKS if all(length % size == 0 for length in lengths)), None)
    work.add_dynamic_config(EVERYWHERE, TFLOperationName.ALL_SUPPORTED, num_bits=4, granularity=QuantGranularity(
        "CHANNELWISE" if block is None else f"BLOCKWISE_{block}"))


def _all_in_eight_bits(work, _):
    work.add_static_config(EVERYWHERE, TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    work.add_dynamic_config(EVERYWHERE, TFLOperationName.EMBEDDING_LOOKUP, num_bits=8,
                            granularity=QuantGranularity.CHANNELWISE)
    for side in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):  # callers see the types of all variants
        work.update_quantization_recipe(EVERYWHERE, side, algorithm_key=AlgorithmName.NO_QUANTIZE)


RECIPES = {"fp16": _half_precision, "int8": _eight_bits, "int4": _four_bits, FULL: _all_in_eight_bits}


def part_small_constants(model):
    """Give every tensor that is no matrix numbers of its own, which signatures share.

    In 8 bits an offset has the scale of what it is added to, and that is another one in each signature; the scales of
    matrices depend on nothing else.
    """
    taken = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is None or np.prod(tensor.shape) >= SMALLEST_TABLE:
                continue
            if tensor.buffer in taken:
                model.buffers.append(schema.BufferT())
                model.buffers[-1].data = data
                tensor.buffer = len(model.buffers) - 1
            taken.add(tensor.buffer)


def hide_within_range(model, ranges):
    """Give what hides scores a value that 8 bits can hold beside them.

    Args:
        model: a `ModelT`, which is changed.
        ranges: name of a tensor -> dict of "min" and "max", which is changed.
    """
    select = {i for i, code in enumerate(model.operatorCodes) if _kind(code) in SELECTS}
    for graph in model.subgraphs:
        for operator in graph.operators:
            if operator.opcodeIndex not in select:
                continue
            _, *sides = (graph.tensors[number] for number in operator.inputs)
            result = graph.tensors[operator.outputs[0]].name.decode()
            hidden = next((side for side in sides if _is_masked(model.buffers[side.buffer].data, side)), None)
            if hidden is None or result not in ranges:
                continue
            scores = next(side for side in sides if side is not hidden)
            lowest = np.float32(np.min(ranges[scores.name.decode()]["min"]) - HIDDEN_BELOW)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(lowest.tobytes() * int(np.prod(hidden.shape)), "uint8")
            model.buffers.append(buffer)
            hidden.buffer = len(model.buffers) - 1
            ranges[result]["min"] = np.full_like(ranges[result]["min"], lowest)


def _is_masked(data, tensor):
    return data is not None and tensor.type == schema.TensorType.FLOAT32 and (
        np.frombuffer(bytes(data), "float32") == np.float32(MASKED_SCORE)).all()


def row_lengths(model):
    """The lengths of rows of all matrices that are multiplied with or looked up in."""
    kinds = {schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOperator.EMBEDDING_LOOKUP}
    codes = {i for i, code in enumerate(model.operatorCodes) if _kind(code) in kinds}
    return {int(graph.tensors[operator.inputs[1]].shape[-1]) for graph in model.subgraphs
            for operator in graph.operators if operator.opcodeIndex in codes}


def look_up_tables(model):
    """Replace each GATHER of rows of a large constant table by EMBEDDING_LOOKUP, which takes a row of ids.

    Args:
        model: a `ModelT` of LiteRT's schema, which is changed.
    """
    gather = {i for i, code in enumerate(model.operatorCodes) if _kind(code) == schema.BuiltinOperator.GATHER}
    for graph in model.subgraphs:
        operators = []
        for operator in graph.operators:
            found = operator.opcodeIndex in gather and _is_lookup(model, graph, operator)
            operators += _lookup(model, graph, operator) if found else [operator]
        graph.operators = operators


def _is_lookup(model, graph, operator):
    table, ids = (graph.tensors[number] for number in operator.inputs)
    return (model.buffers[table.buffer].data is not None and table.type == schema.TensorType.FLOAT32
            and len(table.shape) == 2 and np.prod(table.shape) >= SMALLEST_TABLE and ids.shapeSignature is None
            and operator.builtinOptions.axis == 0 and operator.builtinOptions.batchDims == 0)


def _lookup(model, graph, operator):
    """The operators in place of a GATHER: ids to a row, the lookup, and what it finds to the shape of the GATHER's."""
    (table, ids), (result,) = operator.inputs, operator.outputs
    found, width = graph.tensors[result], int(graph.tensors[table].shape[1])
    count = int(np.prod(graph.tensors[ids].shape))
    flat = _tensor(graph, found.name + b"_ids", (count,), schema.TensorType.INT32)
    rows = _tensor(graph, found.name + b"_rows", (count, width), schema.TensorType.FLOAT32)
    lookup = _operator(model, schema.BuiltinOperator.EMBEDDING_LOOKUP, (flat, table), (rows,))
    return [_reshape(model, graph, ids, flat), lookup, _reshape(model, graph, rows, result)]


def _reshape(model, graph, source, result):
    shape = [int(size) for size in graph.tensors[result].shape]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.array(shape, "int32").tobytes(), "uint8")
    model.buffers.append(buffer)
    name = graph.tensors[result].name + b"_shape"
    constant = _tensor(graph, name, (len(shape),), schema.TensorType.INT32, len(model.buffers) - 1)
    operator = _operator(model, schema.BuiltinOperator.RESHAPE, (source, constant), (result,))
    operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    operator.builtinOptions = schema.ReshapeOptionsT()
    operator.builtinOptions.newShape = np.array(shape, "int32")
    return operator


def _tensor(graph, name, shape, dtype, buffer=0):
    """The number of a new tensor; the buffer 0 is the empty one of all that is computed."""
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, np.array(shape, "int32"), dtype, buffer
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _operator(model, kind, inputs, outputs):
    code = next((i for i, each in enumerate(model.operatorCodes) if _kind(each) == kind), None)
    if code is None:
        code = len(model.operatorCodes)
        model.operatorCodes.append(schema.OperatorCodeT())
        model.operatorCodes[code].builtinCode = kind
        model.operatorCodes[code].deprecatedBuiltinCode = min(
            kind, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
        model.operatorCodes[code].version = 1
    operator = schema.OperatorT()
    operator.opcodeIndex = code
    operator.inputs, operator.outputs = np.array(inputs, "int32"), np.array(outputs, "int32")
    return operator


def _kind(code):
    """Old files have small codes in a field of their own."""
    return max(code.builtinCode, code.deprecatedBuiltinCode)

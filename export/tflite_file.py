"""What a TFLite file consists of: its signatures, operators and tensors, read without an interpreter."""
import mmap
from typing import NamedTuple

ALIGNMENT = 64  # of tensors in the arena, in bytes: kDefaultTensorAlignment of TensorFlow Lite's util.h
# Bits of a number where the type's name does not end in them.
BITS = {"BOOL": 8, "COMPLEX64": 64, "FLOAT8_E4M3FN": 8, "FLOAT8_E5M2": 8, "STRING": 0, "RESOURCE": 0, "VARIANT": 0}


class Tensor(NamedTuple):
    """Attributes:
        name: as the file has it.
        dtype: as its schema calls it, for example "INT32".
        shape: tuple; -1 where the size is known only when it runs.
        is_variable: it keeps its value from one call to the next.
    """
    name: str
    dtype: str
    shape: tuple
    is_variable: bool

    @property
    def nbytes(self):
        """Of its values; a size that is not known counts as 1."""
        count = 1
        for size in self.shape:
            count *= max(size, 1)
        bits = BITS.get(self.dtype) if self.dtype in BITS else int("".join(filter(str.isdigit, self.dtype)))
        return (count * bits + 7) // 8


class Operator(NamedTuple):
    """Attributes:
        kind: as the schema calls it, for example "FULLY_CONNECTED"; of a custom one its own name.
        is_custom: no operator of TensorFlow Lite itself.
        inputs, outputs: numbers of tensors.
    """
    kind: str
    is_custom: bool
    inputs: tuple
    outputs: tuple


class Subgraph(NamedTuple):
    """What a signature calls, or an operator with a graph inside.

    Attributes:
        name: of the signature; of others that of the subgraph.
        tensors, operators: tuples, operators in the order of their running.
        inputs, outputs: numbers of tensors.
    """
    name: str
    tensors: tuple
    operators: tuple
    inputs: tuple
    outputs: tuple


def read_tflite(path):
    """The subgraphs of a TFLite file, as a tuple.

    Raises: ValueError if it is none; other exceptions where it is damaged inside.
    """
    from ai_edge_litert import schema_py_generated as schema

    dtypes, kinds = _names(schema.TensorType), _names(schema.BuiltinOperator)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if not schema.Model.ModelBufferHasIdentifier(content, 0):
            raise ValueError(f"{path} is no TFLite file.")
        model = schema.Model.GetRootAsModel(content, 0)
        codes = [_kind(model.OperatorCodes(i), kinds) for i in range(model.OperatorCodesLength())]
        signatures = [model.SignatureDefs(i) for i in range(model.SignatureDefsLength())]
        names = {each.SubgraphIndex(): _text(each.SignatureKey()) for each in signatures}
        subgraphs = [model.Subgraphs(i) for i in range(model.SubgraphsLength())]
        return tuple(_subgraph(each, names.get(i), codes, dtypes) for i, each in enumerate(subgraphs))


def arena_size(subgraph):
    """Bytes of the values that must lie in memory together while a subgraph runs, weights not counted.

    The least that a plan of the tensor arena needs, where inputs and outputs stay to the end, as TensorFlow Lite's
    planner has them: it adds scratch buffers of kernels, and gaps.
    """
    last = len(subgraph.operators)
    begins = dict.fromkeys(subgraph.inputs, 0)
    ends = dict.fromkeys((*subgraph.inputs, *subgraph.outputs), last)
    for step, operator in enumerate(subgraph.operators):
        for number in operator.outputs:
            begins.setdefault(number, step)
            ends.setdefault(number, step)
        for number in operator.inputs:
            ends[number] = max(ends.get(number, 0), step)
    changes = [0] * (last + 2)
    for number, begin in begins.items():  # what nothing makes is a weight
        size = -(-subgraph.tensors[number].nbytes // ALIGNMENT) * ALIGNMENT
        changes[begin] += size
        changes[ends.get(number, begin) + 1] -= size
    largest = total = 0
    for change in changes:
        total += change
        largest = max(largest, total)
    return largest


def _names(enumeration):
    """number -> name of one of the schema's enumerations."""
    return {number: name for name, number in vars(enumeration).items() if not name.startswith("_")}


def _kind(code, kinds):
    """(kind, is_custom) of an operator code; old files have small codes in a field of their own."""
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    kind = kinds.get(number, f"unknown operator {number}")
    return (_text(code.CustomCode()), True) if kind == "CUSTOM" else (kind, number not in kinds)


def _subgraph(graph, name, codes, dtypes):
    tensors = tuple(_tensor(graph.Tensors(i), dtypes) for i in range(graph.TensorsLength()))
    operators = []
    for i in range(graph.OperatorsLength()):
        each = graph.Operators(i)
        kind, is_custom = codes[each.OpcodeIndex()]
        operators.append(Operator(kind, is_custom, *(_numbers(each, side) for side in ("Inputs", "Outputs"))))
    return Subgraph(name or _text(graph.Name()), tensors, tuple(operators), _numbers(graph, "Inputs"),
                    _numbers(graph, "Outputs"))


def _tensor(tensor, dtypes):
    side = "Shape" if tensor.ShapeSignatureIsNone() else "ShapeSignature"
    shape = tuple(getattr(tensor, side)(i) for i in range(getattr(tensor, f"{side}Length")()))
    return Tensor(_text(tensor.Name()), dtypes.get(tensor.Type(), "UNKNOWN0"), shape, tensor.IsVariable())


def _numbers(table, side):
    """Tensors on one side of an operator or graph; -1, an input that is left out, is not among them."""
    get = getattr(table, side)
    return tuple(number for number in map(get, range(getattr(table, f"{side}Length")())) if number >= 0)


def _text(value):
    return (value or b"").decode("utf-8", "replace")

"""A TFLite file in LiteRT's compiled model: what a call returns can go into the next one without passing through numpy.

A cache of GPT-2 small has 75 MB; to copy it into the interpreter and out again took longer than the model itself.
"""
import atexit
import contextlib
import ctypes
import functools
import math
import os
import sys

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.cpu_options import CpuOptions
from ai_edge_litert.environment import Environment
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.options import Options
from ai_edge_litert.tensor_buffer import TensorBuffer

# XNNPACK's name for a cache in memory, which it has on Linux: weights are prepared once for all signatures of a file,
# and not for each. GPT-2 small in float32 takes 1.1 GB by it, 2.6 GB without.
SHARED_WEIGHTS = ":memory" if sys.platform == "linux" else ""
ALIGNMENT = 64  # bytes; what the runtime asks of memory


class _Set:
    """Buffers for all that one call returns and another takes, made once and used by many calls.

    Attributes:
        outputs: file name of an output -> its buffer.
        rows: our name -> pair of the output's row and the buffer.
        inputs: signature -> {file name of its input: the buffer}, for those that were asked for.
    """

    __slots__ = ("inputs", "outputs", "rows")

    def __init__(self, model, form, rows):
        self.outputs = {row.file_name: model.create_output_buffer_by_name(form.file_name, row.file_name)
                        for row in rows}
        self.rows = {row.name: (row, self.outputs[row.file_name]) for row in rows}
        self.inputs = {}


class Carried:
    """What a call returned and another takes, in the runtime's memory. The buffers serve another call when nobody holds
    this; they go back as one, because Python takes longer over 25 values than over all else that a token needs."""

    __slots__ = ("_free", "_set")

    def __init__(self, buffers, free):
        self._set, self._free = buffers, free

    def inputs(self, form):
        """file name of an input of a signature -> its buffer."""
        known = self._set.inputs
        if form.file_name not in known:
            known[form.file_name] = {row.file_name: self._set.rows[row.name][1] for row in form.inputs
                                     if row.name in self._set.rows}
        return known[form.file_name]

    def numpy(self):
        """Copies: our name -> array."""
        return {name: buffer.read(math.prod(row.shape), np.dtype(row.dtype)).reshape(row.shape)
                for name, (row, buffer) in self._set.rows.items()}

    def __del__(self):
        self._free.append(self._set)


class _Shared:
    """An array of ours that the runtime writes an output to; it takes it for flat, and not for an input."""

    __slots__ = ("_alone", "array", "tensor")

    def __init__(self, row):
        size = math.prod(row.shape) * np.dtype(row.dtype).itemsize
        memory = np.zeros(size + 2 * ALIGNMENT, "uint8")  # kernels may touch what lies a little behind
        start = -memory.ctypes.data % ALIGNMENT
        flat = memory[start:start + size].view(row.dtype)
        self.tensor = TensorBuffer.create_from_host_memory(flat)
        # An array of its own, not one more view of `memory`: all that is made of it refers to it.
        self.array = np.asarray(_Interface(flat.reshape(row.shape)))
        self._alone = sys.getrefcount(self.array)

    def is_free(self):
        """Whether nobody holds the array, or anything made of it; CPython counts."""
        return sys.getrefcount(self.array) == self._alone


class _Interface:
    """Stands between an array and its memory."""

    def __init__(self, array):
        self._array, self.__array_interface__ = array, array.__array_interface__


class BufferedFile:
    """Calls of a TFLite file's signatures.

    Args:
        path: the .tflite file.
        threads: of the CPU.
        forms: the file's `Signature`s. An output that has the name of an input, in whichever signature, is carried from
            call to call; the others are arrays.
    """

    def __init__(self, path, threads, forms):
        Interpreter(model_path=os.fspath(path))  # refuses a damaged file, which would end the process below
        cpu = CpuOptions(num_threads=threads, xnnpack_weight_cache_path=SHARED_WEIGHTS)
        options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=cpu)
        with _without_chatter():
            self._model = CompiledModel.from_file(os.fspath(path), environment=_environment(), options=options)
        self._carried = {row.name for form in forms for row in form.inputs}
        self._written = {}  # signature -> {our name of an input: its row, and the buffer that arrays are written to}
        self._zeros = {}    # (shape, dtype) -> a buffer of zeros
        self._absent = {}   # signature -> {file name of an input that was not given some time: its zeros}
        self._outputs = {}  # signature -> (rows that are carried, free sets of them, pairs of a row and its arrays)
        self._sets = {}     # rows that are carried -> free sets of them
        self._arrays = {}   # (shape, dtype) -> list of `_Shared`

    def described(self):
        """file name of a signature -> what `Session.described` says of it."""
        def plain(rows):
            return {name: (tuple(map(int, row["shape"])), np.dtype(row["dtype"]).name) for name, row in rows.items()}
        return {name: {"inputs": plain(self._model.get_input_tensor_details(name)),
                       "outputs": plain(self._model.get_output_tensor_details(name))}
                for name in self._model.get_signature_list()}

    def call(self, form, arrays, *carried):
        """One signature.

        Args:
            form: its `Signature`.
            arrays: our name -> array. An input that is neither here nor carried is zeros.
            carried: what earlier calls returned.

        Returns: (arrays, carried): our name -> array, each the caller's own, and a `Carried`.
        """
        key = form.file_name
        if key not in self._outputs:
            self._plan(form)
        rows, free, shown = self._outputs[key]
        given = dict(self._absent[key])
        for each in carried:
            given.update(each.inputs(form))
        for name, array in arrays.items():
            row, buffer = self._written[key].get(name) or self._new_written(form, name)
            buffer.write(np.ascontiguousarray(array, row.dtype))
            given[row.file_name] = buffer
        if len(given) < len(form.inputs):
            self._add_zeros(form, given)
        buffers = free.pop() if free else _Set(self._model, form, rows)
        result, outputs, found = Carried(buffers, free), dict(buffers.outputs), {}
        for row, pool in shown:
            shared = next((each for each in pool if each.is_free()), None)
            if shared is None:
                shared = _Shared(row)
                pool.append(shared)
            outputs[row.file_name], found[row.name] = shared.tensor, shared.array
        self._model.run_by_name(key, given, outputs)
        return found, result

    def _plan(self, form):
        rows = tuple(row for row in form.outputs if row.name in self._carried)
        shown = [(row, self._arrays.setdefault((row.shape, row.dtype), []))
                 for row in form.outputs if row.name not in self._carried]
        self._outputs[form.file_name] = (rows, self._sets.setdefault(rows, []), shown)
        self._absent[form.file_name], self._written[form.file_name] = {}, {}

    def _new_written(self, form, name):
        row = next(row for row in form.inputs if row.name == name)
        self._written[form.file_name][name] = row, self._new_input(form, row)
        return self._written[form.file_name][name]

    def _add_zeros(self, form, given):
        for row in form.inputs:
            if row.file_name not in given:
                key = (row.shape, row.dtype)
                if key not in self._zeros:
                    self._zeros[key] = self._new_input(form, row)
                given[row.file_name] = self._absent[form.file_name][row.file_name] = self._zeros[key]

    def _new_input(self, form, row):
        """A buffer of zeros."""
        with _without_chatter():  # the first write in a process starts another environment
            buffer = self._model.create_input_buffer_by_name(form.file_name, row.file_name)
            buffer.write(np.zeros(row.shape, row.dtype))
        return buffer


@functools.lru_cache(maxsize=1)
def _environment():
    """The one of this process."""
    # A folder without plugins for other processors, of whose lacks it would complain.
    nowhere = os.path.dirname(os.path.abspath(__file__))
    environment = Environment.create(compiler_plugin_path=nowhere, dispatch_library_path=nowhere)
    # It would tell stderr of its end: let it last as long as the process.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(environment))
    atexit.register(_close_stderr)  # one of the library's own tells of its end in any case
    return environment


def _close_stderr():
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sys.stderr.flush()
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)


@contextlib.contextmanager
def _without_chatter():
    """Keep from stderr what LiteRT tells of each processor that it looks for; what it refuses comes as an exception."""
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (AttributeError, OSError, ValueError):  # there is none
        yield
        return
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)

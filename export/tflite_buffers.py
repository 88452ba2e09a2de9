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

# XNNPACK's name for a cache in memory, which it has on Linux: weights are prepared once for all signatures of a file,
# and not for each. GPT-2 small in float32 takes 1.1 GB by it, 2.6 GB without.
SHARED_WEIGHTS = ":memory" if sys.platform == "linux" else ""


class _Taken:
    """The buffers of one call, which go back for the next ones of their kinds when nobody holds any of them. They go
    together: Python takes longer to remove 25 values one by one than to do all else that a token needs."""

    __slots__ = ("buffers",)

    def __init__(self):
        self.buffers = []  # pairs of a buffer and the list that it goes back to

    def __del__(self):
        for buffer, free in self.buffers:
            free.append(buffer)


class Held:
    """A tensor in the runtime's memory."""

    __slots__ = ("_buffer", "_row", "_taken")

    def __init__(self, buffer, row, taken):
        self._buffer, self._row, self._taken = buffer, row, taken

    def numpy(self):
        """A copy, of the row's shape and type."""
        return self._buffer.read(math.prod(self._row.shape), np.dtype(self._row.dtype)).reshape(self._row.shape)


class BufferedFile:
    """Calls of a TFLite file's signatures.

    Args:
        path: the .tflite file.
        threads: of the CPU.
    """

    def __init__(self, path, threads):
        Interpreter(model_path=os.fspath(path))  # refuses a damaged file, which would end the process below
        cpu = CpuOptions(num_threads=threads, xnnpack_weight_cache_path=SHARED_WEIGHTS)
        options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=cpu)
        with _without_chatter():
            self._model = CompiledModel.from_file(os.fspath(path), environment=_environment(), options=options)
        self._free = {}    # (shape, dtype) -> buffers that nobody holds
        self._inputs = {}  # (signature, input) -> the buffer that arrays are written to
        self._outputs = {}  # signature -> pairs of an output's row and the free buffers of its kind

    def described(self):
        """file name of a signature -> what `Session.described` says of it."""
        def plain(rows):
            return {name: (tuple(map(int, row["shape"])), np.dtype(row["dtype"]).name) for name, row in rows.items()}
        return {name: {"inputs": plain(self._model.get_input_tensor_details(name)),
                       "outputs": plain(self._model.get_output_tensor_details(name))}
                for name in self._model.get_signature_list()}

    def call(self, form, feeds):
        """One signature.

        Args:
            form: its `Signature`.
            feeds: our name -> array, or `Held`.

        Returns: our name -> `Held`.
        """
        given, results, outputs, taken = {}, {}, {}, _Taken()
        for row in form.inputs:
            if row.name in feeds:
                value = feeds[row.name]
                given[row.file_name] = value._buffer if type(value) is Held else self._written(form, row, value)
        if form.file_name not in self._outputs:
            self._outputs[form.file_name] = [(row, self._free_ones(row)) for row in form.outputs]
        for row, free in self._outputs[form.file_name]:
            buffer = free.pop() if free else self._model.create_output_buffer_by_name(form.file_name, row.file_name)
            taken.buffers.append((buffer, free))
            results[row.file_name], outputs[row.name] = buffer, Held(buffer, row, taken)
        self._model.run_by_name(form.file_name, given, results)
        return outputs

    def hold(self, form, row, array):
        """An array as `Held`, for an input `row` of the signature `form`."""
        buffer, taken = self._new_input(form, row, array), _Taken()
        taken.buffers.append((buffer, self._free_ones(row)))
        return Held(buffer, row, taken)

    def _written(self, form, row, value):
        """The buffer of an input, with an array in it."""
        key, array = (form.file_name, row.file_name), np.ascontiguousarray(value, row.dtype)
        if key in self._inputs:
            self._inputs[key].write(array)
        else:
            self._inputs[key] = self._new_input(form, row, array)
        return self._inputs[key]

    def _new_input(self, form, row, array):
        with _without_chatter():  # the first write in a process starts another environment
            buffer = self._model.create_input_buffer_by_name(form.file_name, row.file_name)
            buffer.write(array)
        return buffer

    def _free_ones(self, row):
        return self._free.setdefault((row.shape, row.dtype), [])


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

"""Checkpoints of a run: one safetensors file each, complete or absent.

A file is written to a temporary name, flushed to the disk and renamed, tensor by tensor, so that a large model is never
held twice. Its metadata is one JSON object. The last two are kept; a damaged one is passed over for the one before.
"""
import contextlib
import json
import math
import os
import pathlib
import struct

import numpy as np

KEPT = 2
DTYPES = {"bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
          "uint64": "U64", "int64": "I64", "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}


class Checkpoint:
    """A complete checkpoint file, opened.

    Attributes:
        path: the file.
        metadata: the dict it was saved with.

    Raises: ValueError naming the file if it is damaged.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        size = self.path.stat().st_size
        try:
            with open(self.path, "rb") as file:
                length = struct.unpack("<Q", file.read(8))[0]
                if length > size - 8:
                    raise ValueError("its header is longer than the file")
                self._tensors = json.loads(file.read(length))
            self.metadata = json.loads(self._tensors.pop("__metadata__")["kzoo"])
            self._start = 8 + length
            end = self._start + max((row["data_offsets"][1] for row in self._tensors.values()), default=0)
        except (struct.error, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path} is damaged ({error}).") from error
        if end != size:
            raise ValueError(f"{self.path} is damaged: it has {size} bytes and should have {end}.")

    def restore(self, variables):
        """Set every Keras variable in name -> variable.

        Raises: ValueError if names, shapes or types differ from the saved ones; nothing is set then.
        """
        if set(variables) != set(self._tensors):
            name = sorted(set(variables) ^ set(self._tensors))[0]
            raise ValueError(f"{self.path} does not fit the model: {name!r} is in one of them only.")
        for name, variable in variables.items():
            row, wanted = self._tensors[name], (DTYPES[_dtype(variable)], list(variable.shape))
            if (row["dtype"], row["shape"]) != wanted:
                raise ValueError(f"{self.path} does not fit the model: {name!r} is {row['dtype']} {row['shape']} "
                                 f"there and {wanted[0]} {wanted[1]} in the model.")
        for name, variable in variables.items():
            variable.assign(self.read(name))

    def read(self, name):
        """The array of one name."""
        row = self._tensors[name]
        begin, end = row["data_offsets"]
        with open(self.path, "rb") as file:
            file.seek(self._start + begin)
            data = file.read(end - begin)
        dtype = next(dtype for dtype, word in DTYPES.items() if word == row["dtype"])
        return np.frombuffer(data, _numpy_dtype(dtype)).reshape(row["shape"])


def save_checkpoint(folder, step, variables, metadata):
    """Write name -> Keras variable and a dict of plain values as the checkpoint of `step`; drop all but the last two.

    Returns: the file's path.
    """
    folder = pathlib.Path(folder)
    path = folder / f"step-{step:09d}.safetensors"
    write_checkpoint(path, variables, metadata)
    for old in _files(folder)[:-KEPT]:
        old.unlink()
    return path


def write_checkpoint(path, variables, metadata):
    """Write name -> Keras variable and a dict of plain values to a file that is complete or absent."""
    partial = path.with_suffix(".partial")
    header, offset = {"__metadata__": {"format": "kzoo-checkpoint", "kzoo": json.dumps(metadata)}}, 0
    for name, variable in variables.items():
        size = math.prod(variable.shape) * _numpy_dtype(_dtype(variable)).itemsize
        header[name] = {"dtype": DTYPES[_dtype(variable)], "shape": list(variable.shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    try:
        with open(partial, "wb") as file:
            file.write(struct.pack("<Q", len(head)) + head)
            for variable in variables.values():
                file.write(np.ascontiguousarray(_array(variable)).tobytes())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
    _flush_folder(path.parent)


def latest_checkpoint(folder):
    """The newest undamaged Checkpoint in `folder`, or None."""
    for path in reversed(_files(folder)):
        with contextlib.suppress(ValueError, OSError):
            return Checkpoint(path)
    return None


def _files(folder):
    return sorted(pathlib.Path(folder).glob("step-*.safetensors"))


def _flush_folder(folder):
    """Make the rename survive a power cut, where the system lets a folder be flushed."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _dtype(variable):
    return str(variable.dtype)


def _numpy_dtype(name):
    if name == "bfloat16":
        import ml_dtypes  # comes with every backend

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def _array(variable):
    from keras import ops

    return ops.convert_to_numpy(variable)

"""Safetensors files, single or sharded, read tensor by tensor. Nothing here unpickles."""
import json
import math
import pathlib
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from kzoo.files import read_json, without_repeats

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.ckpt", "model.pt", "model.pth")


# Stored type -> how numpy reads it. Numpy has no bfloat16: its bits are the upper half of a float32's.
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
INTEGERS = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
            "BOOL": "?"}


class StoredTensor(NamedTuple):
    """Where a tensor lies: its file, its type there, its shape, and the byte at which it starts."""
    path: pathlib.Path
    dtype: str
    shape: tuple
    start: int


class TensorFolder:
    """The tensors in a folder's safetensors files, by name.

    Raises: FileNotFoundError if there are none, ValueError naming the file if one is damaged, incomplete, or lists a
        shard outside the folder. Pickled weights are refused, never opened.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self._tensors = {}
        for path in self._files():
            for name, tensor in _read_header(path).items():
                if name in self._tensors:
                    raise ValueError(f"{path} holds the tensor {name!r}, and {self._tensors[name].path.name} does too.")
                self._tensors[name] = tensor
        self._check_index()

    def _files(self):
        if (self.folder / SINGLE).is_file():
            return [self.folder / SINGLE]
        if (self.folder / INDEX).is_file():
            shards = sorted(set(_weight_map(self.folder).values()))
            for shard in shards:
                if pathlib.PurePath(shard).name != shard:
                    raise ValueError(f"{self.folder / INDEX} names a shard outside its folder: {shard!r}.")
                if not (self.folder / shard).is_file():
                    raise FileNotFoundError(f"{self.folder / shard} is missing; {INDEX} lists it.")
            return [self.folder / shard for shard in shards]
        for name in PICKLED:
            if (self.folder / name).exists():
                raise ValueError(f"{self.folder / name} is a pickle, which can run code when it is opened, so it is "
                                 "refused. Convert it to model.safetensors first.")
        raise FileNotFoundError(f"{self.folder} holds no weights: expected {SINGLE} or {INDEX}.")

    def _check_index(self):
        if (self.folder / SINGLE).is_file():
            return
        for name, shard in _weight_map(self.folder).items():
            if name not in self._tensors or self._tensors[name].path != self.folder / shard:
                raise ValueError(f"{self.folder / INDEX} says that {name!r} is in {shard}; it is not.")

    def names(self):
        return list(self._tensors)

    def shape(self, name):
        return self._tensors[name].shape

    def dtype(self, name):
        """Its type in the file, as safetensors spells it, for example "BF16"."""
        return self._tensors[name].dtype

    def where(self, name):
        """The file that holds a tensor, for error messages."""
        return self._tensors[name].path

    def read(self, name):
        """The tensor as float32 (integers stay what they are)."""
        path, dtype, shape, start = self._tensors[name]
        if dtype not in FLOATS and dtype not in INTEGERS:
            raise ValueError(f"{path}: tensor {name!r} has the type {dtype}, which is not supported.")
        array = np.fromfile(path, {**FLOATS, **INTEGERS}[dtype], math.prod(shape), offset=start)
        if dtype == "BF16":
            array = (array.astype("<u4") << 16).view("<f4")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as that
            return (array.astype("float32") if dtype in FLOATS else array).reshape(shape)


def write_tensors(path, arrays, metadata=None):
    """Write name -> array to one safetensors file; `metadata` is str -> str."""
    safetensors.numpy.save_file(arrays, str(path), metadata=metadata)


def _read_header(path):
    """name -> StoredTensor. The library checks the header with its sizes and offsets, but lets a name be repeated."""
    try:
        with safetensors.safe_open(str(path), framework="np"):
            pass
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length), object_pairs_hook=without_repeats)
    except Exception as error:  # the library has one exception for damage, and others for reading
        raise ValueError(f"{path} is not a sound safetensors file ({error}).") from error
    header.pop("__metadata__", None)
    return {name: StoredTensor(path, row["dtype"], tuple(row["shape"]), 8 + length + row["data_offsets"][0])
            for name, row in header.items()}


def _weight_map(folder):
    weights = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weights, dict) or not weights or not all(isinstance(shard, str) for shard in weights.values()):
        raise ValueError(f"{folder / INDEX} has no `weight_map` of tensor names to file names.")
    return weights

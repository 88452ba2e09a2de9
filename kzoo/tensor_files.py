"""Safetensors files, single or sharded, read tensor by tensor. Nothing here unpickles."""
import pathlib

import numpy as np
import safetensors
import safetensors.numpy

from kzoo.files import read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.ckpt", "model.pt", "model.pth")


class TensorFolder:
    """The tensors in a folder's safetensors files, by name.

    Raises: FileNotFoundError if there are none, ValueError naming the file if one is damaged, incomplete, or lists a
        shard outside the folder. Pickled weights are refused, never opened.
    """

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self._owner = {}
        self._shapes = {}
        self._dtypes = {}
        for path in self._files(folder):
            with _open(path) as file:
                for name in file.keys():
                    view = file.get_slice(name)
                    self._owner[name] = path
                    self._shapes[name] = tuple(view.get_shape())
                    self._dtypes[name] = view.get_dtype()
        self._check_index(folder)

    @staticmethod
    def _files(folder):
        if (folder / SINGLE).is_file():
            return [folder / SINGLE]
        if (folder / INDEX).is_file():
            shards = sorted({str(name) for name in _weight_map(folder).values()})
            for shard in shards:
                if pathlib.PurePath(shard).name != shard:
                    raise ValueError(f"{folder / INDEX} names a shard outside its folder: {shard!r}.")
                if not (folder / shard).is_file():
                    raise FileNotFoundError(f"{folder / shard} is missing; {INDEX} lists it.")
            return [folder / shard for shard in shards]
        for name in PICKLED:
            if (folder / name).exists():
                raise ValueError(f"{folder / name} is a pickle, which can run code when it is opened, so it is refused. "
                                 "Convert it to model.safetensors first.")
        raise FileNotFoundError(f"{folder} holds no weights: expected {SINGLE} or {INDEX}.")

    def _check_index(self, folder):
        if (folder / SINGLE).is_file() or not (folder / INDEX).is_file():
            return
        for name, shard in _weight_map(folder).items():
            if self._owner.get(name) != folder / shard:
                raise ValueError(f"{folder / INDEX} says that {name!r} is in {shard}; it is not.")

    def names(self):
        return list(self._owner)

    def shape(self, name):
        return self._shapes[name]

    def where(self, name):
        """The file that holds a tensor, for error messages."""
        return self._owner[name]

    def read(self, name):
        """The tensor as float32 (integers stay what they are)."""
        path, dtype = self._owner[name], self._dtypes[name]
        if dtype == "BF16":  # numpy has no such type: its bits are the upper half of a float32's
            raw = dict(safetensors.deserialize(path.read_bytes()))[name]["data"]
            bits = np.frombuffer(bytes(raw), "<u2").astype("<u4") << 16
            return bits.view("<f4").reshape(self._shapes[name])
        if dtype not in ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL", "U16", "U32", "U64"):
            raise ValueError(f"{path}: tensor {name!r} has the type {dtype}, which is not supported.")
        with _open(path) as file:
            array = file.get_tensor(name)
        return array.astype("float32") if array.dtype.kind == "f" else array


def write_tensors(path, arrays, metadata=None):
    """Write name -> array to one safetensors file; `metadata` is str -> str."""
    safetensors.numpy.save_file(arrays, str(path), metadata=metadata)


def _open(path):
    try:
        return safetensors.safe_open(str(path), framework="np")
    except Exception as error:  # the library has one exception for damage, and others for reading
        raise ValueError(f"{path} is not a sound safetensors file ({error}).") from error


def _weight_map(folder):
    weights = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise ValueError(f"{folder / INDEX} has no `weight_map`.")
    return weights

"""Safetensors folders: what is read is what was written, and what is damaged or hostile is refused by name."""
import json
import struct

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from kzoo.tensor_files import TensorFolder, write_tensors

rng = np.random.default_rng(0)
ARRAYS = {"first": rng.normal(size=(3, 5)).astype("float32"), "second": rng.normal(size=(7,)).astype("float32"),
          "scalar": np.array(2.5, "float32"), "nothing": np.zeros((0, 3), "float32")}


def test_what_is_read_is_what_was_written(tmp_path):
    write_tensors(tmp_path / "model.safetensors", ARRAYS, {"format": "pt"})
    tensors = TensorFolder(tmp_path)
    assert sorted(tensors.names()) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert tensors.shape(name) == array.shape and tensors.dtype(name) == "F32"
        np.testing.assert_array_equal(tensors.read(name), array)
    assert tensors.where("first") == tmp_path / "model.safetensors"


@pytest.mark.parametrize("dtype, stored", [("float64", "F64"), ("float16", "F16"), (ml_dtypes.bfloat16, "BF16")])
def test_other_floats_become_float32(tmp_path, dtype, stored):
    arrays = {name: array.astype(dtype) for name, array in ARRAYS.items()}
    write_tensors(tmp_path / "model.safetensors", arrays)
    tensors = TensorFolder(tmp_path)
    for name, array in arrays.items():
        assert tensors.dtype(name) == stored and tensors.read(name).dtype == np.float32
        np.testing.assert_array_equal(tensors.read(name), array.astype("float32"))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "bool"])
def test_integers_stay(tmp_path, dtype):
    array = np.array([[1, 0, 3]]).astype(dtype)
    write_tensors(tmp_path / "model.safetensors", {"numbers": array})
    read = TensorFolder(tmp_path).read("numbers")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, array)


def test_what_float32_cannot_hold_is_infinite(tmp_path):
    write_tensors(tmp_path / "model.safetensors", {"large": np.array([1e300])})
    assert np.isinf(TensorFolder(tmp_path).read("large")).all()


# Shards.

def write_shards(folder, shards, weight_map=None):
    for file, names in shards.items():
        safetensors.numpy.save_file({name: ARRAYS[name] for name in names}, folder / file)
    if weight_map is None:
        weight_map = {name: file for file, names in shards.items() for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def test_shards_are_read_as_one(tmp_path):
    write_shards(tmp_path, {ONE: ["first"], TWO: ["second", "scalar"]})
    tensors = TensorFolder(tmp_path)
    assert sorted(tensors.names()) == ["first", "scalar", "second"]
    assert tensors.where("second") == tmp_path / TWO
    np.testing.assert_array_equal(tensors.read("second"), ARRAYS["second"])


@pytest.mark.parametrize("outside", ["../secret.safetensors", "/etc/passwd", "sub/model.safetensors"])
def test_shards_outside_the_folder_are_refused(tmp_path, outside):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for secret in (tmp_path / "secret.safetensors", folder / "sub" / "model.safetensors"):
        safetensors.numpy.save_file(ARRAYS, secret)
    write_shards(folder, {ONE: ["first"]}, {"first": ONE, "second": outside})
    with pytest.raises(ValueError, match="index.json names a shard outside its folder: "):
        TensorFolder(folder)


def test_shards_that_contradict_their_index_are_refused(tmp_path):
    write_shards(tmp_path, {ONE: ["first"], TWO: ["second"]}, {"first": TWO, "second": TWO})
    with pytest.raises(ValueError, match=f"says that 'first' is in {TWO}; it is not"):
        TensorFolder(tmp_path)
    write_shards(tmp_path, {ONE: ["first"], TWO: ["second"]}, {"first": ONE, "second": TWO, "third": TWO})
    with pytest.raises(ValueError, match=f"says that 'third' is in {TWO}; it is not"):
        TensorFolder(tmp_path)
    write_shards(tmp_path, {ONE: ["first"], TWO: ["first", "second"]}, {"first": ONE, "second": TWO})
    with pytest.raises(ValueError, match=f"{TWO} holds the tensor 'first', and {ONE} does too"):
        TensorFolder(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    write_shards(tmp_path, {ONE: ["first"], TWO: ["second"]})
    (tmp_path / TWO).unlink()
    with pytest.raises(FileNotFoundError, match=f"{TWO} is missing; model.safetensors.index.json lists it"):
        TensorFolder(tmp_path)


@pytest.mark.parametrize("text, words", [
    ("{}", "has no `weight_map`"),
    ('{"weight_map": []}', "has no `weight_map`"),
    ('{"weight_map": {"first": 3}}', "has no `weight_map` of tensor names to file names"),
    ("{", "is not valid JSON"),
    ("[]", "must hold a JSON object"),
])
def test_a_damaged_index_is_named(tmp_path, text, words):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=f"index.json {words}"):
        TensorFolder(tmp_path)


# Damage and malice.

ROW = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write_raw(folder, header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(header) if length is None else length
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + header + data)


@pytest.mark.parametrize("header, data, length", [
    ({"a": ROW}, b"\0" * 7, None),
    ({"a": ROW}, b"\0" * 9, None),
    ({"a": ROW}, b"\0" * 8, 2 ** 60),
    ({"a": ROW}, b"\0" * 8, 2 ** 64 - 1),
    ({"a": ROW}, b"\0" * 8, 3),
    ({"a": ROW, "b": {**ROW, "data_offsets": [4, 12]}}, b"\0" * 12, None),
    ({"a": ROW, "b": {**ROW, "data_offsets": [12, 20]}}, b"\0" * 20, None),
    ({"a": {**ROW, "data_offsets": [8, 0]}}, b"\0" * 8, None),
    ({"a": {**ROW, "data_offsets": [0, 2 ** 62]}}, b"\0" * 8, None),
    ({"a": {**ROW, "dtype": "F64"}}, b"\0" * 8, None),
    ({"a": {**ROW, "dtype": "float32"}}, b"\0" * 8, None),
    ({"a": {**ROW, "shape": [-2]}}, b"\0" * 8, None),
    ({"a": {**ROW, "shape": [2 ** 40, 2 ** 40]}}, b"\0" * 8, None),
    ({"a": {"dtype": "F32", "shape": [2]}}, b"\0" * 8, None),
    ([1, 2], b"", None),
    (b"\xff\xfe{}", b"", None),
    (b"", b"", None),
    (b'{"a":' * 50_000, b"", None),
    (json.dumps({"a": ROW})[:-1].encode() + b', "a": ' + json.dumps(ROW).encode() + b"}", b"\0" * 8, None),
], ids=["cut", "longer", "huge header", "endless header", "short header", "overlap", "hole", "backwards",
        "beyond the end", "wrong size", "unknown type", "negative shape", "overflow", "no offsets", "list", "not text",
        "empty", "deep", "name twice"])
def test_unsound_files_are_refused_by_name(tmp_path, header, data, length):
    write_raw(tmp_path, header, data, length)
    with pytest.raises(ValueError, match="model.safetensors is not a sound safetensors file") as caught:
        TensorFolder(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_sound_one_is_taken(tmp_path):
    write_raw(tmp_path, {"a": ROW}, b"\0" * 8)
    assert TensorFolder(tmp_path).read("a").tolist() == [0, 0]


@pytest.mark.parametrize("content", [b"", b"abc", b"not safetensors at all, but long enough"])
def test_other_files_are_refused_by_name(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="model.safetensors is not a sound safetensors file"):
        TensorFolder(tmp_path)


def test_types_that_have_no_meaning_here_are_refused(tmp_path):
    write_raw(tmp_path, {"a": {**ROW, "dtype": "F8_E4M3", "shape": [8]}}, b"\0" * 8)
    with pytest.raises(ValueError, match="tensor 'a' has the type F8_E4M3, which is not supported"):
        TensorFolder(tmp_path).read("a")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt"])
def test_pickles_are_refused_and_not_opened(tmp_path, name, monkeypatch):
    (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n(S'false'\ntR.")
    opened = []
    monkeypatch.setattr("builtins.open", lambda path, *arguments, **options: opened.append(path))
    with pytest.raises(ValueError, match=f"{name} is a pickle, which can run code.* Convert it to model.safetensors"):
        TensorFolder(tmp_path)
    assert not opened


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no weights: expected model.safetensors or "):
        TensorFolder(tmp_path)

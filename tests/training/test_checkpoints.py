"""Checkpoints: a round trip of every type, damage noticed, the last two kept, nothing half-written."""
import struct

import keras
import numpy as np
import pytest
import safetensors

from kzoo.training import checkpoints
from kzoo.training.checkpoints import Checkpoint, latest_checkpoint, save_checkpoint

METADATA = {"step": 5, "history": [{"loss": 0.1}], "words": "ü\n"}


def variables(seed):
    """One of each type that a model or an optimizer may have."""
    random = np.random.default_rng(seed)
    result = {"model/0/kernel": keras.Variable(random.normal(size=(3, 5)).astype("float32"), dtype="float32"),
              "model/1/half": keras.Variable(random.normal(size=(7,)), dtype="bfloat16"),
              "model/2/seed": keras.Variable(random.integers(1 << 31, size=2), dtype="uint32", trainable=False),
              "optimizer/0/iteration": keras.Variable(random.integers(99), dtype="int32", trainable=False)}
    return result


def values(state):
    return {name: keras.ops.convert_to_numpy(variable).tobytes() for name, variable in state.items()}


def test_round_trip(tmp_path):
    state = variables(1)
    path = save_checkpoint(tmp_path, 5, state, METADATA)
    other = variables(2)
    assert values(other) != values(state)
    found = latest_checkpoint(tmp_path)
    assert found.path == path
    assert found.metadata == METADATA
    found.restore(other)
    assert values(other) == values(state)


def test_one_array_can_be_read_alone(tmp_path):
    state = variables(1)
    found = Checkpoint(save_checkpoint(tmp_path, 5, state, METADATA))
    for name, variable in state.items():
        assert found.read(name).tobytes() == keras.ops.convert_to_numpy(variable).tobytes(), name


def test_the_file_is_ordinary_safetensors(tmp_path):
    state = variables(1)
    path = save_checkpoint(tmp_path, 5, state, METADATA)
    with safetensors.safe_open(str(path), framework="np") as file:
        assert set(file.keys()) == set(state)
        np.testing.assert_array_equal(file.get_tensor("model/0/kernel"),
                                      keras.ops.convert_to_numpy(state["model/0/kernel"]))


def test_keeps_the_last_two(tmp_path):
    for step in (5, 10, 1000, 15):
        save_checkpoint(tmp_path, step, variables(1), {**METADATA, "step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000015.safetensors",
                                                                "step-000001000.safetensors"]


@pytest.mark.parametrize("damage", ["cut", "longer", "header", "short"])
def test_passes_over_a_damaged_one(tmp_path, damage):
    save_checkpoint(tmp_path, 5, variables(1), METADATA)
    path = save_checkpoint(tmp_path, 10, variables(1), {**METADATA, "step": 10})
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-1], "longer": data + b"x", "short": data[:5],
                      "header": struct.pack("<Q", 1 << 60) + data[8:]}[damage])
    with pytest.raises(ValueError, match="step-000000010.safetensors is damaged"):
        Checkpoint(path)
    assert latest_checkpoint(tmp_path).metadata["step"] == 5


def test_none_where_there_is_none(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / "step-000000005.partial").write_bytes(b"half")
    assert latest_checkpoint(tmp_path) is None


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 5, variables(1), METADATA)

    def full(variable):
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoints, "_array", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, 10, variables(1), METADATA)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005.safetensors"]


@pytest.mark.parametrize("change, words", [("absent", "'model/1/half' is in one of them only"),
                                           ("shape", r"F32 \[3, 5\] there and F32 \[5, 3\]"),
                                           ("dtype", r"F32 \[3, 5\] there and F16 \[3, 5\]")])
def test_what_does_not_fit_is_refused_and_sets_nothing(tmp_path, change, words):
    save_checkpoint(tmp_path, 5, variables(1), METADATA)
    state = variables(2)
    if change == "absent":
        del state["model/1/half"]
    else:
        state["model/0/kernel"] = keras.Variable(np.zeros((5, 3) if change == "shape" else (3, 5)),
                                                 dtype="float32" if change == "shape" else "float16")
    before = values(state)
    with pytest.raises(ValueError, match=words):
        latest_checkpoint(tmp_path).restore(state)
    assert values(state) == before

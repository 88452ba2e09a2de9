"""TensorBoard's format, read back byte by byte, and by TensorBoard itself where it is installed."""
import struct

import pytest

from kzoo.training.event_file import EventFile, _checksum


def write(folder):
    events = EventFile(folder, step=3)
    events.scalars(7, {"loss": 1.5, "absent": None})
    events.scalars(300, {"loss": 0.25})
    events.close()
    [path] = folder.iterdir()
    return path


def test_the_checksum_is_crc32c_masked():
    # CRC-32C of "123456789" is 0xe3069283, the check value of its definition.
    value = 0xE3069283
    masked = (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    assert _checksum(b"123456789") == struct.pack("<I", masked)
    assert _checksum(b"123456788") != struct.pack("<I", masked)


def test_records_carry_their_length_and_checksums(tmp_path):
    data, found = write(tmp_path / "logs").read_bytes(), []
    while data:
        length = struct.unpack("<Q", data[:8])[0]
        event = data[12:12 + length]
        assert data[8:12] == _checksum(data[:8]) and data[12 + length:16 + length] == _checksum(event)
        found.append(event)
        data = data[16 + length:]
    assert len(found) == 4  # the version, the start, two scalars
    assert b"brain.Event:2" in found[0] and b"loss" in found[2]


def test_tensorboard_reads_it(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator",
                                      reason="TensorBoard is optional")
    write(tmp_path / "logs")
    reader = accumulator.EventAccumulator(str(tmp_path / "logs"))
    reader.Reload()
    assert reader.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in reader.Scalars("loss")] == [(7, 1.5), (300, 0.25)]

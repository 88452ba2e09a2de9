"""TensorBoard's log format, written without TensorBoard, so that it is there on every backend.

A file is a row of records: length (8 bytes), its checksum, the event, its checksum. An event is a protocol buffer with
few fields, written out here by hand; a scalar, with the numbers of the fields, is
`Event{wall_time=1, step=2, summary=5{value=1{tag=1, simple_value=2}}}`.

Source: tensorflow/core/util/event.proto and lib/io/record_writer.cc in TensorFlow.
"""
import os
import pathlib
import struct
import time


class EventFile:
    """One log file in `folder`, for one process.

    Args:
        folder: the log directory; made when needed.
        step: the step this process starts from; TensorBoard then drops what an interrupted one logged after it.
    """

    def __init__(self, folder, step=0):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.kzoo.{os.getpid()}.{time.time_ns() % 10**9}"
        self._file = open(folder / name, "wb")
        self._event(_bytes(3, b"brain.Event:2"))
        self._event(_number(2, step) + _bytes(7, _number(1, 1)))  # SessionLog{status=START}

    def scalars(self, step, values):
        """Log name -> float at `step`; None values are left out."""
        summary = b"".join(_bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
                           for tag, value in values.items() if value is not None)
        self._event(_number(2, step) + _bytes(5, summary))

    def close(self):
        self._file.close()

    def _event(self, fields):
        event = b"\x09" + struct.pack("<d", time.time()) + fields
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))
        self._file.flush()


def _varint(value):
    result = bytearray()
    while value > 127:
        result.append(value & 127 | 128)
        value >>= 7
    return bytes([*result, value])


def _number(field, value):
    return _varint(field << 3) + _varint(value)


def _bytes(field, value):
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _checksum(data):
    """CRC-32C, rotated and shifted as the record format asks."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    value ^= 0xFFFFFFFF
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)

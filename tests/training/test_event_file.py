"""TensorBoard reads what was logged, without TensorFlow."""
import subprocess
import sys
import time

import pytest

from kzoo.training.event_file import EventFile

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator",
                                  reason="the tensorboard package is optional")


def read(folder):
    reader = accumulator.EventAccumulator(str(folder))
    reader.Reload()
    return reader


def test_tensorboard_reads_it(tmp_path):
    events = EventFile(tmp_path / "logs", step=3)
    events.scalars(7, {"loss": 1.5, "absent": None})
    events.scalars(300, {"loss": 0.25})
    events.close()
    reader = read(tmp_path / "logs")
    assert reader.Tags()["scalars"] == ["loss"]
    assert [(event.step, event.value) for event in reader.Scalars("loss")] == [(7, 1.5), (300, 0.25)]


def test_a_resumed_process_replaces_what_the_interrupted_one_logged_after_its_checkpoint(tmp_path):
    for start, value in ((0, 1.0), (2, 2.0)):
        events = EventFile(tmp_path, step=start)
        for step in range(start + 1, 5):
            events.scalars(step, {"loss": value})
        events.close()
        time.sleep(1.1)  # TensorBoard orders files by the second in their names
    assert [(event.step, event.value) for event in read(tmp_path).Scalars("loss")] == [
        (1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


def test_no_tensorflow_is_loaded(tmp_path):
    code = ("import sys; sys.modules['tensorflow'] = None\n"
            "from kzoo.training.event_file import EventFile\n"
            f"events = EventFile({str(tmp_path)!r}); events.scalars(1, {{'loss': 1.0}}); events.close()")
    subprocess.run([sys.executable, "-c", code], check=True)
    assert read(tmp_path).Tags()["scalars"] == ["loss"]


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        EventFile(tmp_path)

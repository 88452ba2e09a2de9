"""Stand-ins for the functions that the commands call."""
import pytest

import kzoo


class Recorder:
    """A function that remembers its calls and returns what it was told to."""

    def __init__(self, result=None):
        self.calls = []
        self.result = result

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        return self.result


@pytest.fixture
def replace(monkeypatch):
    """replace(name, result) puts a Recorder at a lazy public name of kzoo, so that no backend starts."""
    monkeypatch.setattr("kzoo.cli.start.start_backend", lambda: None)

    def put(name, result=None):
        recorder = Recorder(result)
        monkeypatch.setitem(kzoo.__dict__, name, recorder)
        return recorder
    return put


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("some text\n")
    return str(path)

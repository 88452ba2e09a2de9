"""The backend starts without its notes."""
import os
import sys

import pytest

from kzoo.cli.start import _stderr_aside, start_backend


def test_what_is_written_meanwhile_is_put_aside(capfd):
    with _stderr_aside():
        os.write(2, b"a note\n")
    os.write(2, b"an error\n")
    assert capfd.readouterr().err == "an error\n"


def test_what_is_written_before_a_failure_is_shown(capfd):
    with pytest.raises(ImportError), _stderr_aside():
        os.write(2, b"a note\n")
        raise ImportError
    assert capfd.readouterr().err == "a note\n"


def test_a_backend_that_is_missing_is_named_with_its_extra(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ImportError, match=r"package keras, which is not installed. .*pip install 'kzoo\[train\]'"):
        start_backend()


def test_the_backend_is_there_afterwards(capfd):
    start_backend()
    assert capfd.readouterr().err == ""

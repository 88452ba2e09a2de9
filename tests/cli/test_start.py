"""The backend starts without its notes."""
import os

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


def test_the_backend_is_there_afterwards(capfd):
    start_backend()
    assert capfd.readouterr().err == ""

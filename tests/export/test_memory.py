"""What the process knows of its own memory."""
import sys

import numpy as np
import pytest

from kzoo.export import memory


def test_peak_memory_counts_what_was_touched():
    before = memory.peak_memory()
    block = np.ones(before // 8)  # as much again as was ever used at once, in bytes
    assert memory.peak_memory() > block.nbytes + before // 4


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the memory of now")
@pytest.mark.parametrize("forgets", [True, False])
def test_what_an_action_took_is_seen_though_it_gave_it_back(monkeypatch, forgets):
    if not forgets:  # as in a container that does not allow it; then the peak must be a new one
        monkeypatch.setattr(memory, "_forget_peak", lambda: False)
    size = memory.peak_memory() if not forgets else 2**26
    result, used = memory.watch(lambda: float(np.ones(size // 8).sum()))
    assert result == size // 8
    assert size // 2 < used < 2 * size
    assert memory.watch(lambda: None)[1] < 2**24


def test_a_system_that_does_not_say_is_no_error(monkeypatch):
    monkeypatch.setattr(memory, "_status", lambda field: None)
    assert memory.watch(lambda: 7) == (7, None)

"""Rules of who may see whom."""
import numpy as np
import pytest
from keras import ops

from kzoo.layers import Causal, Everything, SlidingWindow

T, S = 5, 7
QUERY, KEY = np.arange(S - T, S, dtype="int32")[:, None], np.arange(S, dtype="int32")[None]  # the last are asking


def test_everything_needs_no_mask():
    assert Everything()(QUERY, KEY) is None


def test_causal_sees_itself_and_the_past():
    expected = [[s <= t for s in range(S)] for t in range(S - T, S)]
    np.testing.assert_array_equal(Causal()(QUERY, KEY), expected)
    np.testing.assert_array_equal(ops.convert_to_numpy(Causal()(ops.array(QUERY), ops.array(KEY))), expected)


@pytest.mark.parametrize("window_size", [1, 3, 100])
def test_sliding_window_counts_the_token_itself(window_size):
    expected = [[0 <= t - s < window_size for s in range(S)] for t in range(S - T, S)]
    np.testing.assert_array_equal(SlidingWindow(window_size)(QUERY, KEY), expected)
    if window_size == 3:
        assert not np.array_equal(SlidingWindow(window_size + 1)(QUERY, KEY), expected)
    if window_size == 100:
        np.testing.assert_array_equal(SlidingWindow(window_size)(QUERY, KEY), Causal()(QUERY, KEY))


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`window_size` must be at least 1. Received: 0"):
        SlidingWindow(0)

"""Rules of who may see whom."""
import numpy as np
import pytest
from keras import ops

from kzoo.layers import Causal, Everything, Recent

T, S = 5, 7
QUERY, KEY = np.arange(S - T, S, dtype="int32")[:, None], np.arange(S, dtype="int32")[None]  # the last are asking


def test_everything_needs_no_mask():
    assert Everything()(QUERY, KEY) is None


def test_causal_sees_itself_and_the_past():
    expected = [[s <= t for s in range(S)] for t in range(S - T, S)]
    np.testing.assert_array_equal(Causal()(QUERY, KEY), expected)
    np.testing.assert_array_equal(ops.convert_to_numpy(Causal()(ops.array(QUERY), ops.array(KEY))), expected)


@pytest.mark.parametrize("length", [1, 3, 100])
def test_recent_counts_the_token_itself(length):
    expected = [[0 <= t - s < length for s in range(S)] for t in range(S - T, S)]
    np.testing.assert_array_equal(Recent(length)(QUERY, KEY), expected)
    if length == 3:
        assert not np.array_equal(Recent(length + 1)(QUERY, KEY), expected)
    if length == 100:
        np.testing.assert_array_equal(Recent(length)(QUERY, KEY), Causal()(QUERY, KEY))


def test_a_window_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`length` must be at least 1. Received: 0"):
        Recent(0)

"""Rows of ids, as a rectangle with special tokens around them."""
import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from kzoo.export.text_graph import pack  # noqa: E402

ROWS = [[11, 12, 13, 14, 15], [], [21, 22]]
IDS, STARTS, LENGTHS = sum(ROWS, []), [0, 5, 5], [5, 0, 2]


def packed(before, after, longest=None, width=None):
    return [value.numpy() for value in pack(tf.constant(IDS), tf.constant(STARTS), tf.constant(LENGTHS), before, after,
                                            99, longest, width)]


@pytest.mark.parametrize(("before", "after"), [([], []), ([1], [2]), ([1, 3], []), ([], [2, 4, 5])])
@pytest.mark.parametrize(("longest", "width"), [(None, None), (6, None), (7, 7), (None, 13)])
def test_rows_are_those_written_out(before, after, longest, width):
    ids, mask, counts = packed(before, after, longest, width)
    room = None if longest is None else longest - len(before) - len(after)
    expected = [[*before, *row[:room], *after] for row in ROWS]
    assert [row[real].tolist() for row, real in zip(ids, mask, strict=True)] == expected
    assert ids.shape == mask.shape == (3, width or max(map(len, expected)))
    assert (ids[~mask] == 99).all() and (np.sort(~mask, axis=1) == ~mask).all()  # padding, and on the right
    assert counts.tolist() == [len(row) + len(before) + len(after) for row in ROWS]


def test_nothing_is_a_row_of_padding():
    zero = tf.constant([0])
    ids, mask, counts = (value.numpy() for value in pack(tf.zeros([0], tf.int32), zero, zero, [], [], 99))
    assert ids.tolist() == [[99]] and mask.tolist() == [[False]] and counts.tolist() == [0]

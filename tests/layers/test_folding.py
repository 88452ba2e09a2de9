"""Blocks are cut and joined again; padding goes behind the real tokens and comes back."""
import numpy as np
import pytest
from keras import ops

from kzoo.layers import Causal, Everything, Positions
from kzoo.layers.folding import Blocks, in_order, is_one_sequence, neighbours, reorder, sees_ahead

B, T, H = 2, 7, 3
x = np.arange(B * T * H, dtype="float32").reshape(B, T, H) + 1


def array(x):
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize("blocks, shape", [(Blocks(T, 3), (B, 3, 3, H)), (Blocks(T, 2, strided=True), (B, 2, 4, H))])
def test_what_is_cut_can_be_joined(blocks, shape):
    cut = array(blocks.cut(x))
    assert cut.shape == shape
    np.testing.assert_array_equal(array(blocks.join(cut)), x)
    second = [3, 4, 5] if not blocks.strided else [1, 3, 5]
    np.testing.assert_array_equal(cut[:, 1, :3], x[:, second])
    assert not cut[:, -1, -1].any()  # filled up


def test_neighbours_stand_around_a_block():
    cut = Blocks(T, 3).cut(x)
    around = array(neighbours(cut, 1, 1))
    assert around.shape == (B, 3, 9, H)
    np.testing.assert_array_equal(around[:, 1], np.concatenate([x, np.zeros((B, 2, H))], axis=1))
    assert not around[:, 0, :3].any() and not around[:, -1, -3:].any()


def test_padding_goes_behind_and_comes_back():
    real = np.array([[0, 0, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 1, 1]], bool)
    count = np.maximum(np.cumsum(real, axis=1) - 1, 0)
    positions, order = in_order(Positions(count, count, count, real), T)
    moved = array(reorder(x, order))
    np.testing.assert_array_equal(moved[0, :4], x[0, [2, 3, 5, 6]])
    np.testing.assert_array_equal(moved[1], x[1])
    assert array(positions.padding_mask).tolist() == [[True] * 4 + [False] * 3, [True] * 7]
    np.testing.assert_array_equal(array(reorder(moved, ops.argsort(order, axis=1))), x)
    assert in_order(Positions(count, count, count, None), T)[1] is None


def test_rules_are_asked_whether_they_see_ahead():
    assert [sees_ahead(mask) for mask in (Everything(), Causal(), lambda q, k: k <= q + 1)] == [True, False, True]


def test_one_sequence_has_as_many_keys_as_queries():
    assert is_one_sequence(x, x) and not is_one_sequence(x[:, :2], x)

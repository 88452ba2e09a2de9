"""Caches: what is appended is what is attended to, in both kinds."""
import numpy as np
import pytest
from keras import ops

from kzoo.layers import GrowingCache, MemoryCache, StaticCache

B, C, K, D = 2, 7, 3, 5
rng = np.random.default_rng(5)
keys, values = rng.normal(size=(2, B, C + 4, K, D)).astype("float32")


def fill(cache, *lengths):
    """Append tokens in pieces; returns the last call's (keys, values, cache)."""
    start, result = 0, None
    for length in lengths:
        piece = slice(start, start + length)
        result = cache.append(ops.array(keys[:, piece]), ops.array(values[:, piece]))
        cache, start = result[2], start + length
    return tuple(ops.convert_to_numpy(x) for x in result[:2]) + (cache,)


def test_growing_cache_concatenates():
    cache = GrowingCache.empty(B, K, D, "float32")
    assert int(cache.index) == 0 and cache.keys.shape == (B, 0, K, D)
    all_keys, all_values, cache = fill(cache, 2, 1, 3)
    np.testing.assert_array_equal(all_keys, keys[:, :6])
    np.testing.assert_array_equal(all_values, values[:, :6])
    assert int(cache.index) == 6


@pytest.mark.parametrize("lengths", [(1,), (2, 1, 3), (C,), (1,) * C], ids=str)
def test_static_cache_writes_where_it_stands(lengths):
    total = sum(lengths)
    all_keys, all_values, cache = fill(StaticCache.empty(B, C, K, D, "float32"), *lengths)
    np.testing.assert_array_equal(all_keys[:, :total], keys[:, :total])
    np.testing.assert_array_equal(all_values[:, :total], values[:, :total])
    assert not all_keys[:, total:].any() and not all_values[:, total:].any()
    assert int(cache.index) == total and cache.keys.shape == (B, C, K, D)


def test_what_was_appended_does_not_change_the_cache_it_was_appended_to():
    before = fill(StaticCache.empty(B, C, K, D, "float32"), 2)[2]
    copy = ops.convert_to_numpy(before.keys).copy()
    before.append(ops.array(keys[:, :1]), ops.array(values[:, :1]))
    np.testing.assert_array_equal(ops.convert_to_numpy(before.keys), copy)
    assert int(before.index) == 2


def test_tokens_that_do_not_fit_are_not_written():
    """A slice update would shift the write and overwrite what is there."""
    all_keys, _, cache = fill(StaticCache.empty(B, C, K, D, "float32"), C - 1, 3)
    np.testing.assert_array_equal(all_keys, keys[:, :C])
    full = fill(StaticCache.empty(B, C, K, D, "float32"), C)[2]
    for length in (1, 3):
        after = full.append(ops.array(keys[:, C:C + length]), ops.array(values[:, C:C + length]))
        np.testing.assert_array_equal(ops.convert_to_numpy(after[0]), keys[:, :C])


def test_an_index_off_by_one_shows():
    _, _, cache = fill(StaticCache.empty(B, C, K, D, "float32"), 2)
    wrong = cache._replace(index=cache.index + 1)
    for length in (1, 3):
        new = ops.array(keys[:, 2:2 + length]), ops.array(values[:, 2:2 + length])
        right, shifted = (ops.convert_to_numpy(each.append(*new)[0]) for each in (cache, wrong))
        np.testing.assert_array_equal(right[:, :2 + length], keys[:, :2 + length])
        assert not np.array_equal(right, shifted)


def test_half_precision_is_kept():
    cache = StaticCache.empty(B, C, K, D, "float16")
    all_keys, _, cache = cache.append(ops.array(keys[:, :2]), ops.array(values[:, :2]))
    assert "float16" in str(all_keys.dtype)


@pytest.mark.parametrize("lengths", [(2, 1), (4, 5), (C,), (C + 4,)])
def test_a_memory_keeps_what_came_last(lengths):
    hidden_states, real = keys[:, :, 0], rng.random((B, C + 4)) < 0.7  # (B, C + 4, D)
    memory, start = MemoryCache.empty(B, C, D, "float32"), 0
    for length in lengths:
        piece = slice(start, start + length)
        memory, start = memory.append(ops.array(hidden_states[:, piece]), ops.array(real[:, piece])), start + length
    before = np.zeros((B, C, D), "float32")
    for kept, parts in zip(memory, ((before, hidden_states), (before[..., 0] > 0, real)), strict=True):
        expected = np.concatenate([parts[0], parts[1][:, :start]], axis=1)
        np.testing.assert_array_equal(ops.convert_to_numpy(kept), expected[:, -C:])
        assert not np.array_equal(ops.convert_to_numpy(kept), expected[:, :C])


def test_a_memory_forgets_the_rows_it_is_told_to():
    memory = MemoryCache.empty(B, C, D, "float32").append(ops.array(keys[:, :C, 0]), ops.ones((B, C), "bool"))
    hidden_states, real = (ops.convert_to_numpy(each) for each in memory.forget(ops.array([False, True])))
    np.testing.assert_array_equal(hidden_states[0], keys[0, :C, 0])
    assert not hidden_states[1].any() and real[0].all() and not real[1].any()

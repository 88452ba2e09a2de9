"""Blocks of a window are the window: what they compute is attention under its mask, at the cost of the window."""
import math

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.backend import compile_function
from kzoo.layers import (
    ALiBi,
    Attention,
    Causal,
    Everything,
    Full,
    GrowingCache,
    NoPosition,
    RingCache,
    Rotary,
    SharedKeys,
    SlidingWindow,
    StaticCache,
    locate,
)

ON_JAX = keras.backend.backend() == "jax"
ENOUGH = 1 if ON_JAX else None  # of the cases, where each is compiled
B, T, H, K, D, G = 2, 23, 6, 3, 4, 5
rng = np.random.default_rng(7)
query = rng.normal(size=(B, T, H, D)).astype("float32")
key, value = rng.normal(size=(2, B, T, K, D)).astype("float32")
shared = SharedKeys(*rng.normal(size=(2, B, G, K, D)).astype("float32"),
                    np.arange(G) < np.array([[G], [2]]))
LEFT, RIGHT = (np.stack([np.ones(T, bool), order(np.arange(T)) < 15]) for order in (lambda x: x[::-1], lambda x: x))


def attend(pattern, mask=Everything(), position=NoPosition(), padding=None, **options):  # noqa: B008
    def call(query, key, value):
        positions = locate(query, padding if padding is None else ops.convert_to_tensor(padding))
        return pattern.attend(query, key, value, positions, mask, position, **options)

    call = compile_function(keras.Model(), call) if ON_JAX else call
    return ops.convert_to_numpy(call(*map(ops.convert_to_tensor, (query, key, value))))


class Near:
    """Full attention's mask that says what a window means."""

    def __init__(self, window_size, dilation=1, causal=False):
        self.window_size, self.dilation, self.causal = window_size, dilation, causal

    def __call__(self, q, k):
        distance = q - k
        near = (abs(distance) < self.window_size * self.dilation) & (distance % self.dilation == 0)
        return near & (distance >= 0) if self.causal else near


def test_agrees_with_the_formula_written_out():
    expected = np.zeros((B, T, H, D))
    for b, h, t in np.ndindex(B, H, T):
        around = slice(max(t - 3, 0), t + 4)
        scores = key[b, around, h // 2] @ query[b, t, h] / math.sqrt(D)
        expected[b, t, h] = np.exp(scores) / np.exp(scores).sum() @ value[b, around, h // 2]
    np.testing.assert_allclose(attend(SlidingWindow(4)), expected, atol=1e-5)
    assert np.abs(attend(SlidingWindow(5)) - expected).max() > 0.1


@pytest.mark.parametrize("padding", [LEFT, None, RIGHT][:ENOUGH], ids=["left", "whole", "right"][:ENOUGH])
@pytest.mark.parametrize("pattern", [
    SlidingWindow(4, dilation=3, block_size=2), SlidingWindow(1), SlidingWindow(4), SlidingWindow(4, block_size=7),
    SlidingWindow(6, block_size=2), SlidingWindow(9), SlidingWindow(T), SlidingWindow(3, dilation=2)][:ENOUGH], ids=str)
def test_blocks_equal_full_attention_under_the_same_mask(pattern, padding):
    real = np.ones((B, T), bool) if padding is None else padding
    for causal, mask, position in ((False, Everything(), NoPosition()), (True, Causal(), ALiBi())):
        result = attend(pattern, mask, position, padding)
        expected = attend(Full(), Near(pattern.window_size, pattern.dilation, causal), position, padding)
        np.testing.assert_allclose(result[real], expected[real], atol=1e-5)
        wider = Near(pattern.window_size + 1, pattern.dilation, causal)
        if pattern.window_size < T:
            assert np.abs(result - attend(Full(), wider, position, padding))[real].max() > 0.01


@pytest.mark.parametrize("pattern", [SlidingWindow(3, dilation=2), SlidingWindow(4), SlidingWindow(T)][:ENOUGH],
                         ids=str)
def test_shared_keys_join_the_same_softmax(pattern):
    window = attend(Full(), Near(pattern.window_size, pattern.dilation), padding=RIGHT)
    result = attend(pattern, padding=RIGHT, shared=shared)
    near = Near(pattern.window_size, pattern.dilation)(np.arange(T)[:, None], np.arange(T))
    for b in range(B):
        keys = np.concatenate([key[b], shared.keys[b][shared.visible[b]]])             # (S, K, D)
        values = np.concatenate([value[b], shared.values[b][shared.visible[b]]])
        seen = np.concatenate([near & RIGHT[b], np.ones((T, shared.visible[b].sum()), bool)], axis=1)
        scores = np.einsum("thd,shd->hts", query[b], keys.repeat(H // K, axis=1)) / math.sqrt(D)
        weights = np.exp(scores) * seen
        expected = np.einsum("hts,shd->thd", weights / weights.sum(-1, keepdims=True), values.repeat(H // K, axis=1))
        np.testing.assert_allclose(result[b][RIGHT[b]], expected[RIGHT[b]], atol=1e-5)
    assert np.abs(result - window).max() > 0.1


def test_a_causal_window_hears_nothing_of_the_future(monkeypatch):
    before, other = attend(SlidingWindow(4), Causal()), key.copy()
    other[:, 9] += 1
    monkeypatch.setattr(f"{__name__}.key", other)
    after = attend(SlidingWindow(4), Causal())
    changed = np.abs(after - before).max(axis=(0, 2, 3)) > 0
    np.testing.assert_array_equal(changed, [9 <= t < 13 for t in range(T)])


def layer(pattern):
    attention = Attention(H, D, 11, K, Causal(), Rotary(), pattern)
    attention.build((None, None, 11))
    attention.set_weights([rng.normal(0, 0.4, weight.shape).astype("float32") for weight in attention.weights])
    return attention


x = rng.normal(size=(B, T, 11)).astype("float32")


@pytest.mark.parametrize("padding, dilation", [(LEFT, 2), (None, 1)][:ENOUGH], ids=["padded", "whole"][:ENOUGH])
def test_cached_equals_uncached(padding, dilation):
    """In growing, static and ring caches; the ring holds what the window reaches and no more."""
    pattern = SlidingWindow(4, dilation)
    attention, real = layer(pattern), np.ones((B, T), bool) if padding is None else padding
    step = compile_function(attention, lambda x, mask, cache=None: attention(x, locate(x, mask, cache=cache), cache))
    expected = ops.convert_to_numpy(step(ops.convert_to_tensor(x), ops.convert_to_tensor(real))[0])

    def in_pieces(cache):
        start, results, kept = 0, [], cache.keys.shape
        for length in (7, 7, 1, 1, 7):
            mask = np.ones((B, T), bool) if padding is None else padding
            mask = mask[:, :start + length] if isinstance(cache, GrowingCache) else mask
            result, cache = step(ops.convert_to_tensor(x[:, start:start + length]), ops.convert_to_tensor(mask), cache)
            results.append(ops.convert_to_numpy(result))
            start += length
        assert cache.keys.shape == kept or isinstance(cache, GrowingCache)
        return np.concatenate(results, axis=1)

    for cache in (GrowingCache.empty(B, K, D, "float32"), StaticCache.empty(B, T, K, D, "float32"),
                  RingCache.empty(B, pattern.reach, K, D, "float32")):
        if isinstance(cache, RingCache) or not ON_JAX:
            np.testing.assert_allclose(in_pieces(cache)[real], expected[real], atol=1e-5)
    short = in_pieces(RingCache.empty(B, pattern.reach - dilation, K, D, "float32"))
    assert np.abs(short - expected)[real].max() > 0.01


def temporary_bytes_and_products(pattern, length):
    """What XLA says that a compiled call takes: (bytes besides inputs and outputs, floating-point operations)."""
    shape = (1, length, 2, 8)
    positions = locate(np.zeros((1, length)))

    def call(query, key, value):
        return pattern.attend(query, key, value, positions, Everything(), NoPosition())

    import jax

    compiled = jax.jit(call).lower(*[jax.ShapeDtypeStruct(shape, "float32")] * 3).compile()
    return compiled.memory_analysis().temp_size_in_bytes, compiled.cost_analysis()["flops"]


@pytest.mark.skipif(not ON_JAX, reason="XLA's analysis of costs is read through JAX")
def test_cost_grows_with_the_length():
    for pattern, growth in ((SlidingWindow(33), 2), (Full(), 4)):
        (memory, products), (twice_memory, twice_products) = (
            temporary_bytes_and_products(pattern, length) for length in (512, 1024))
        assert twice_memory / memory == pytest.approx(growth, rel=0.05), pattern
        assert twice_products / products == pytest.approx(growth, rel=0.05), pattern


@pytest.mark.parametrize("fields", [dict(window_size=0), dict(window_size=2, dilation=0),
                                    dict(window_size=2, block_size=0)], ids=str)
def test_windows_of_nothing_are_refused(fields):
    with pytest.raises(ValueError, match=f"`{list(fields)[-1]}` must be at least 1. Received: 0"):
        SlidingWindow(**fields)


@pytest.mark.skipif(ON_JAX, reason="does not depend on the backend")
def test_a_layer_with_a_window_survives_its_config():
    attention = layer(SlidingWindow(3, dilation=2))
    again = Attention.from_config(attention.get_config())
    assert again.pattern == SlidingWindow(3, 2) != SlidingWindow(3)
    again.build((None, None, 11))
    again.set_weights(attention.get_weights())
    positions = locate(x)
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x, positions)[0]),
                                  ops.convert_to_numpy(attention(x, positions)[0]))

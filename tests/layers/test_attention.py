"""The attention layer: its parts, its cache, cross-attention."""
import math

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import ALiBi, Attention, Causal, GrowingCache, NoPosition, Positions, Rotary, StaticCache, locate

B, T, S, H, D, E = 2, 5, 7, 6, 4, 11
rng = np.random.default_rng(8)
x = rng.normal(size=(B, T, E)).astype("float32")
TOKENS = np.zeros((B, T), "int32")


def array(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def redrawn(layer, width=E, context_width=None):
    layer.build((B, T, width), context_shape=context_width and (B, S, context_width))
    layer.set_weights([rng.normal(0, 0.4, size=weight.shape).astype("float32") for weight in layer.weights])
    return layer


def written_out(layer, x, mask, key_heads, context=None):
    """Per head, with each projection's own columns."""
    weights = {f"{part}_{kind}": array(getattr(getattr(layer, part if part != "output" else "output_dense"), kind))
               for part in ("query", "key", "value", "output") for kind in ("kernel", "bias")}
    source = x if context is None else context
    query, key, value = (each @ weights[f"{part}_kernel"] + weights[f"{part}_bias"]
                         for part, each in (("query", x), ("key", source), ("value", source)))
    mixed = []
    for h in range(H):
        own, shared = slice(h * D, (h + 1) * D), h // (H // key_heads)
        shared = slice(shared * D, (shared + 1) * D)
        scores = query[..., own] @ key[..., shared].swapaxes(1, 2) / math.sqrt(D)
        attended = np.exp(scores) * mask
        mixed.append(attended / attended.sum(axis=-1, keepdims=True) @ value[..., shared])
    return np.concatenate(mixed, axis=-1) @ weights["output_kernel"] + weights["output_bias"]


@pytest.mark.parametrize("key_heads", [1, 2, 3, 6])
def test_agrees_with_the_formula_written_out(key_heads):
    layer = redrawn(Attention(H, D, E, num_key_value_heads=key_heads, mask=Causal()))
    result, cache = layer(x, locate(TOKENS))
    assert cache is None
    np.testing.assert_allclose(array(result), written_out(layer, x, np.tri(T), key_heads), atol=1e-5)
    assert np.abs(array(result) - written_out(layer, x, np.ones((T, T)), key_heads)).max() > 0.01


def test_the_future_leaves_no_trace():
    """Bit for bit: a language model whose past changes with its future has no causal mask."""
    for position in (NoPosition(), Rotary(), ALiBi()):
        layer = redrawn(Attention(H, D, E, mask=Causal(), position=position))
        before = array(layer(x, locate(TOKENS))[0])
        changed = x.copy()
        changed[:, 3] += 1.0
        after = array(layer(changed, locate(TOKENS))[0])
        np.testing.assert_array_equal(after[:, :3], before[:, :3])
        assert np.abs(after[:, 3:] - before[:, 3:]).max() > 0.01
    blind = redrawn(Attention(H, D, E))
    assert np.abs(array(blind(changed, locate(TOKENS))[0]) - array(blind(x, locate(TOKENS))[0]))[:, :3].max() > 0.001


@pytest.mark.parametrize("position", [NoPosition(), Rotary(), ALiBi()], ids=lambda part: type(part).__name__)
@pytest.mark.parametrize("kind", ["growing", "static"])
def test_cached_equals_uncached(kind, position):
    layer = redrawn(Attention(H, D, E, num_key_value_heads=3, mask=Causal(), position=position))
    expected = array(layer(x, locate(TOKENS))[0])

    def in_pieces(cache, lengths=(2, 1, 2), shift=0):
        start, results = 0, []
        for length in lengths:
            positions = locate(TOKENS[:, :length], cache=cache)
            y, cache = layer(x[:, start:start + length], positions, cache)
            results.append(array(y))
            start += length
            if shift:
                cache = cache._replace(index=cache.index + shift)
        return np.concatenate(results, axis=1)

    empty = GrowingCache.empty(B, 3, D, "float32") if kind == "growing" else StaticCache.empty(B, 9, 3, D, "float32")
    np.testing.assert_allclose(in_pieces(empty), expected, atol=1e-5)
    if kind == "static":
        assert np.abs(in_pieces(empty, shift=1) - expected).max() > 1e-3


def test_context_gives_keys_and_values():
    context_width = 13
    layer = redrawn(Attention(H, D, E), context_width=context_width)
    context = rng.normal(size=(B, S, context_width)).astype("float32")
    padding = np.ones((B, S), bool)
    padding[1, 4:] = False
    positions = Positions(np.arange(T)[None], np.arange(T)[None], np.arange(S)[None], padding)
    result, _ = layer(x, positions, context=context)
    expected = written_out(layer, x, padding[:, None], H, context)
    np.testing.assert_allclose(array(result), expected, atol=1e-5)
    context[1, 4:] = 99.0  # padded: unseen
    np.testing.assert_array_equal(array(layer(x, positions, context=context)[0]), array(result))
    context[0, 4:] = 99.0
    assert np.abs(array(layer(x, positions, context=context)[0]) - array(result)).max() > 0.01


def test_rotary_turns_keys_of_a_context_by_their_own_positions():
    layer = redrawn(Attention(H, D, E, position=Rotary()))
    context = rng.normal(size=(B, S, E)).astype("float32")

    def at(first_query, first_key):
        query, key = first_query + np.arange(T)[None], first_key + np.arange(S)[None]
        return array(layer(x, Positions(query, query, key, None), context=context)[0])

    np.testing.assert_allclose(at(0, 0), at(50, 50), atol=1e-4)
    assert np.abs(at(0, 0) - at(0, 3)).max() > 1e-3


def test_dropout_is_for_training_only():
    layer = redrawn(Attention(H, D, E, dropout=0.5))
    first, second = (array(layer(x, locate(TOKENS))[0]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    dropped, again = (array(layer(x, locate(TOKENS), training=True)[0]) for _ in range(2))
    assert np.abs(dropped - first).max() > 0.01 and np.abs(dropped - again).max() > 0.01


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_with_a_row_that_sees_nothing(dtype):
    layer = redrawn(Attention(H, D, E, mask=Causal(), position=Rotary(), dtype=dtype))
    padding = np.ones((B, T), bool)
    padding[0] = False
    result, _ = layer(x, locate(TOKENS, padding))
    assert keras.backend.standardize_dtype(result.dtype) == dtype.removeprefix("mixed_")
    assert np.isfinite(array(result)).all()


def test_key_heads_must_divide():
    with pytest.raises(ValueError, match="`num_key_value_heads` must divide `num_heads`. Received: 4 and 6"):
        Attention(H, D, num_key_value_heads=4)


def test_round_trip():
    layer = redrawn(Attention(H, D, E, num_key_value_heads=3, mask=Causal(), position=Rotary(500.0), scale=0.3,
                              dropout=0.1, use_bias=False, output_initializer="zeros", name="attention"))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (again.mask, again.position, again.pattern) == (layer.mask, layer.position, layer.pattern)
    assert again.dropout.rate == 0.1 and again.name == "attention"
    if not again.built:
        again.build((B, T, E))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(array(again(x, locate(TOKENS))[0]), array(layer(x, locate(TOKENS))[0]))

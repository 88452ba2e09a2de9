"""Shaw's relative positions: the formula with a vector for each pair, which the layer never makes."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import (
    Attention,
    BlockLocal,
    Causal,
    Everything,
    Full,
    GrowingCache,
    Pattern,
    Positions,
    ShawRelative,
    Strided,
    locate,
)
from tests.layers.pattern_reference import dear_on_jax

B, T, H, D, E, FURTHEST = 2, 7, 3, 4, 11, 2
rng = np.random.default_rng(5)
query, key, value = rng.normal(size=(3, B, T, H, D)).astype("float32")
x = rng.normal(size=(B, T, E)).astype("float32")


def part(furthest=FURTHEST, **options):
    layer = ShawRelative(D, furthest, **options)
    layer.build()
    layer.set_weights([np.random.default_rng(6).normal(size=(2 * furthest + 1, D)) for _ in range(2)])
    return layer


def attend(position, first=0, pattern=Full()):  # noqa: B008
    at = np.arange(first, first + T, dtype="int32")[None]
    mixed = pattern.attend(query, key, value, Positions(at, at, at, None), Everything(), position, scale=position.scale)
    return ops.convert_to_numpy(mixed)


def written_out(position, with_values=True):
    key_table, value_table = position.get_weights()
    result = np.zeros((B, T, H, D))
    for b, t, h in np.ndindex(B, T, H):
        rows = np.clip(np.arange(T) - t, -FURTHEST, FURTHEST) + FURTHEST
        scores = (key[b, :, h] + key_table[rows]) @ query[b, t, h] * (position.scale or D ** -0.5)
        weights = np.exp(scores) / np.exp(scores).sum()
        result[b, t, h] = weights @ (value[b, :, h] + with_values * value_table[rows])
    return result


@pytest.mark.parametrize("scale", [None, 0.7])
def test_agrees_with_the_formula_written_out(scale):
    position = part(scale=scale)
    np.testing.assert_allclose(attend(position), written_out(position), atol=1e-5)
    assert np.abs(attend(position) - written_out(position, with_values=False)).max() > 0.1


def test_only_distances_count():
    position = part()
    np.testing.assert_array_equal(attend(position), attend(position, first=1000))


def test_distances_beyond_the_table_share_its_ends():
    """A table for all distances whose far rows are those of the ends gives the same on a text of any length."""
    near, far = part(), part(T)
    rows = np.clip(np.arange(-T, T + 1), -FURTHEST, FURTHEST) + FURTHEST
    far.set_weights([table[rows] for table in near.get_weights()])
    np.testing.assert_allclose(attend(near), attend(far), atol=1e-5)


@dear_on_jax
def test_blocks_ask_the_same_table():
    at = np.arange(T, dtype="int32")[None]
    for pattern in (BlockLocal(3), Strided(3)):
        ruled = Pattern.attend(pattern, query, key, value, Positions(at, at, at, None), Everything(), part())
        np.testing.assert_allclose(attend(part(), pattern=pattern), ops.convert_to_numpy(ruled), atol=1e-5)
        assert np.abs(attend(part(), pattern=pattern) - attend(part())).max() > 0.01


@dear_on_jax
def test_cached_equals_uncached():
    layer = Attention(H, D, E, mask=Causal(), position=part())
    layer.build((B, T, E))
    layer.set_weights([rng.normal(0, 0.4, size=weight.shape) for weight in layer.weights])
    tokens = np.zeros((B, T), "int32")
    expected = ops.convert_to_numpy(layer(x, locate(tokens))[0])
    cache = GrowingCache.empty(B, H, D, "float32")
    first, cache = layer(x[:, :4], locate(tokens[:, :4], cache=cache), cache)
    second, _ = layer(x[:, 4:], locate(tokens[:, 4:], cache=cache), cache)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), expected, atol=1e-5)


def test_no_distance_at_all_is_refused():
    with pytest.raises(ValueError, match="`max_distance` must be at least 1. Received: 0"):
        ShawRelative(D, 0)


def test_round_trip():
    layer = part(scale=0.3, initializer="zeros", name="position")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    if not again.built:
        again.build()
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(attend(again), attend(layer))
    assert (again.max_distance, again.scale, again.name) == (FURTHEST, 0.3, "position")

"""Positions: where tokens are, and what each kind makes of it."""
import math

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import (
    ALiBi,
    GrowingCache,
    LearnedPositions,
    NoPosition,
    Rotary,
    SinusoidalPositions,
    StaticCache,
    locate,
)
from kzoo.layers.positions import alibi_slopes

B, T, H, D, E = 2, 5, 3, 4, 14
rng = np.random.default_rng(6)


def array(x):
    return ops.convert_to_numpy(x)


# Sinusoidal and learned.

@pytest.mark.parametrize("interleaved", [True, False])
def test_sinusoids_agree_with_the_formula(interleaved):
    positions = np.array([[0, 1, 2, 3, 17], [0, 0, 1, 2, 3]], "int32")
    expected = np.zeros((B, T, E))
    for b, t, i in np.ndindex(B, T, E // 2):
        angle = positions[b, t] / 10000 ** (2 * i / E)
        sine, cosine = (2 * i, 2 * i + 1) if interleaved else (i, E // 2 + i)
        expected[b, t, sine], expected[b, t, cosine] = math.sin(angle), math.cos(angle)
    result = array(SinusoidalPositions(E, interleaved=interleaved)(positions))
    np.testing.assert_allclose(result, expected, atol=1e-5)
    other = array(SinusoidalPositions(E, interleaved=not interleaved)(positions))
    assert np.abs(result - other).max() > 0.1


def test_sinusoids_have_the_known_first_row_and_length():
    waves = array(SinusoidalPositions(E)(np.arange(29, dtype="int32")[None]))[0]
    np.testing.assert_allclose(waves[0], [0, 1] * (E // 2), atol=1e-7)
    np.testing.assert_allclose((waves ** 2).sum(axis=1), E / 2, rtol=1e-5)
    assert len(np.unique(waves.round(4), axis=0)) == 29  # each position has a row of its own


def test_sinusoids_of_odd_width_are_refused():
    with pytest.raises(ValueError, match="`hidden_dim` must be even.*Received: 13"):
        SinusoidalPositions(13)


def test_learned_positions_are_rows_of_the_table():
    layer = LearnedPositions(11, E)
    layer.build(None)
    table = rng.normal(size=(11, E)).astype("float32")
    layer.set_weights([table])
    positions = np.array([[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]], "int32")
    np.testing.assert_array_equal(array(layer(positions)), table[positions])


@pytest.mark.parametrize("layer", [LearnedPositions(11, E, keras.initializers.RandomNormal(stddev=0.3)),
                                   SinusoidalPositions(E, interleaved=False)], ids=["learned", "sinusoidal"])
def test_round_trip(layer):
    positions = np.arange(T, dtype="int32")[None]
    expected = array(layer(positions))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    again(positions)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(array(again(positions)), expected)
    assert again.compute_output_shape((1, T)) == (1, T, E)


# Rotary.

def rotated_as_complex(x, positions, base=10000.0):
    """Pair (i, i + D/2) as a complex number, turned by p * base^(-2i/D)."""
    half = x.shape[-1] // 2
    pairs = x[..., :half] + 1j * x[..., half:]
    angles = positions[..., None, None] * base ** (-2 * np.arange(half) / x.shape[-1])
    turned = pairs * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def test_rotary_agrees_with_complex_rotation():
    x = rng.normal(size=(B, T, H, D)).astype("float32")
    positions = np.array([[0, 1, 2, 3, 40], [5, 6, 7, 8, 9]], "int32")
    result = array(Rotary(base=500.0).rotate(x, positions))
    np.testing.assert_allclose(result, rotated_as_complex(x, positions, 500.0), atol=1e-5)
    assert np.abs(result - rotated_as_complex(x, positions)).max() > 0.01
    # Halves, not neighbours: the two forms give other checkpoints.
    order = [0, 2, 1, 3]
    neighbours = rotated_as_complex(x[..., order], positions, 500.0)[..., np.argsort(order)]
    assert np.abs(result - neighbours).max() > 0.1


def test_rotary_scores_depend_on_the_distance_alone():
    query, key = rng.normal(size=(2, 1, 1, H, D)).astype("float32")

    def score(query_position, key_position):
        turned = [Rotary().rotate(x, np.array([[position]], "int32"))
                  for x, position in ((query, query_position), (key, key_position))]
        return array(ops.sum(turned[0] * turned[1], axis=-1))

    np.testing.assert_allclose(score(9, 4), score(105, 100), atol=1e-4)
    assert np.abs(score(9, 4) - score(9, 5)).max() > 1e-3


def test_rotary_keeps_lengths_and_position_zero():
    x = rng.normal(size=(1, 2, H, D)).astype("float32")
    turned = array(Rotary().rotate(x, np.array([[0, 31]], "int32")))
    np.testing.assert_array_equal(turned[:, 0], x[:, 0])
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1), rtol=1e-5)


def scores_by_distance(rotary, distances):
    """How two vectors match at each distance."""
    vector = np.ones((1, len(distances), 1, 8), "float32")
    first = array(rotary.rotate(vector[:, :1], np.array([[0]], "int32")))
    return (array(rotary.rotate(vector, np.array([distances], "float32"))) * first).sum(axis=(0, 2, 3))


def test_rotary_reads_a_longer_text_as_one_that_it_knows():
    """Linear scaling squeezes distances into those of training; "ntk" does so for the slowest pair alone."""
    near, far = np.arange(16.0), 4 * np.arange(16.0)
    plain, linear = Rotary(), Rotary(scaling="linear", factor=4.0)
    np.testing.assert_allclose(scores_by_distance(linear, far), scores_by_distance(plain, near), atol=1e-4)
    assert np.abs(scores_by_distance(plain, far) - scores_by_distance(plain, near)).max() > 0.5
    ntk, known = Rotary(scaling="ntk", factor=4.0).frequencies(8), plain.frequencies(8)
    assert ntk[0] == known[0] and ntk[-1] == pytest.approx(known[-1] / 4)
    assert (ntk[1:] < known[1:]).all() and (ntk[1:-1] > known[1:-1] / 4).all()
    np.testing.assert_array_equal(linear.frequencies(8), known / 4)
    np.testing.assert_array_equal(Rotary(scaling="ntk").frequencies(8), known)  # a factor of 1 changes nothing
    np.testing.assert_array_equal(Rotary(scaling="ntk", factor=3.0).frequencies(2), plain.frequencies(2))


@pytest.mark.parametrize("rotary", [Rotary(), Rotary(scaling="linear", factor=2.5), Rotary(scaling="ntk", factor=2.5)])
def test_scaled_rotary_scores_depend_on_the_distance_alone(rotary):
    x = rng.normal(size=(1, T, H, D)).astype("float32")
    at = np.array([[0, 3, 4, 9, 11]], "int32")
    here, there = ([array(rotary.rotate(x, at + shift))] for shift in (0, 200))
    np.testing.assert_allclose(*(np.einsum("bthd,bshd->bhts", each[0], each[0]) for each in (here, there)), atol=1e-3)


@pytest.mark.parametrize("settings, words", [
    ({"scaling": "ntc", "factor": 2.0}, "Unknown scaling of rotary positions 'ntc'. Did you mean 'ntk'"),
    ({"factor": 2.0}, "`factor` must be at least 1, and 1 without a `scaling`. Received: 2.0 with scaling=None"),
    ({"scaling": "ntk", "factor": 0.5}, "`factor` must be at least 1.*Received: 0.5"),
])
def test_scalings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Rotary(**settings)


def test_rotary_of_odd_width_is_refused():
    with pytest.raises(ValueError, match="even head_dim. Received: 5"):
        Rotary().rotate(np.zeros((1, 1, 1, 5), "float32"), np.zeros((1, 1), "int32"))


# ALiBi.

@pytest.mark.parametrize("num_heads, expected", [
    (1, [2 ** -8]),
    (8, [2 ** -(h + 1) for h in range(8)]),
    # The published rule: the slopes for 4 heads, then every second one of those for 8.
    (6, [2 ** -2, 2 ** -4, 2 ** -6, 2 ** -8, 2 ** -1, 2 ** -3]),
    (12, [2 ** -(h + 1) for h in range(8)] + [2 ** -0.5, 2 ** -1.5, 2 ** -2.5, 2 ** -3.5]),
])
def test_alibi_slopes(num_heads, expected):
    np.testing.assert_allclose(alibi_slopes(num_heads), expected, rtol=1e-12)


def test_alibi_bias_is_slope_times_distance():
    query, key = np.array([[3, 4]], "int32"), np.array([[0, 1, 2, 3, 4]], "int32")
    heads = np.zeros((1, 2, H, D), "float32")
    bias = array(ALiBi().score_bias(heads, query[:, None, :, None], key[:, None, None, :]))
    assert bias.shape == (1, H, 2, 5)
    for h, t, s in np.ndindex(H, 2, 5):
        assert bias[0, h, t, s] == pytest.approx(-alibi_slopes(H)[h] * abs(query[0, t] - key[0, s]))
    moved = ALiBi().score_bias(heads, query[:, None, :, None] + 7, key[:, None, None, :] + 7)
    np.testing.assert_array_equal(array(moved), bias)


def test_no_position_changes_nothing():
    x = rng.normal(size=(B, T, H, D))
    assert NoPosition().rotate(x, None) is x and NoPosition().score_bias(x, None, None) is None


# locate: B = 2 rows of T = 5 real tokens.

TOKENS = np.zeros((B, T), "int32")


def located(*arguments, **options):
    found = locate(*arguments, **options)
    return [None if x is None else array(x).tolist() for x in found]


def test_locate_without_padding():
    count = [list(range(T))]
    assert located(TOKENS) == [count, count, count, None]


def test_locate_counts_real_tokens():
    """Both paddings number the real tokens alike; a padded slot takes the number before it, and at least 0."""
    left = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]], bool)
    right = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)
    assert located(TOKENS, left)[0] == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]
    assert located(TOKENS, right)[0] == [[0, 1, 2, 2, 2], [0, 1, 2, 3, 4]]
    assert located(TOKENS, left)[3] == left.tolist()
    assert located(TOKENS, np.zeros((B, T), bool))[0] == [[0] * T] * B


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("kind", ["growing", "static"])
def test_locate_goes_on_where_the_cache_stands(kind, padding):
    capacity, done = 11, 3
    if kind == "growing":
        slots = done + 2
        cache = GrowingCache(ops.zeros((B, done, 1, 1)), ops.zeros((B, done, 1, 1)))
    else:
        slots = capacity
        cache = StaticCache.empty(B, capacity, 1, 1, "float32")._replace(index=ops.convert_to_tensor(done, "int32"))
    mask = None
    if padding == "left":
        mask = np.ones((B, slots), bool)
        mask[0, :2] = False
    token, query, key, answered = located(TOKENS[:, :2], mask, cache=cache)
    plain = list(range(slots))
    if padding == "none":
        assert (token, query, key, answered) == ([[3, 4]], [[3, 4]], [plain], None)
    else:
        shifted = [max(slot - 2, 0) for slot in plain]
        assert (token, query, key) == ([[1, 2], [3, 4]], [[1, 2], [3, 4]], [shifted, plain])
    moved = located(TOKENS[:, :2], mask, cache=cache._replace(index=cache.index + 1)) if kind == "static" else None
    assert moved is None or moved[1] != query


def test_positions_of_the_caller_go_to_embeddings_only():
    positions = np.array([[7, 8, 9, 10, 11]], "int32")
    token, query, key, _ = located(TOKENS, positions=positions)
    assert token == positions.tolist() and query == key == [list(range(T))]

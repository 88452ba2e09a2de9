"""Transformer-XL's positions: scores by distance, computed by a shift."""
import math

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import (
    Attention,
    BlockLocal,
    BlockSparse,
    Blockwise,
    Causal,
    Everything,
    Full,
    Positions,
    QueryBiases,
    Recent,
    SlidingWindow,
    Strided,
    TransformerXLPositions,
    TransformerXLRelative,
    locate,
)
from kzoo.layers.patterns import Pattern
from kzoo.layers.transformer_xl_positions import relative_shift
from tests.layers.pattern_reference import in_one

B, T, S, H, D, E = 2, 5, 11, 3, 7, 6  # S keys, of which the last T are the queries
rng = np.random.default_rng(0)


def array(x):
    return ops.convert_to_numpy(x)


def made(clamp_length=None, biases=None):
    layer = TransformerXLPositions(H, D, E, clamp_length, biases)
    layer.build(None)
    layer.set_weights([rng.normal(size=weight.shape).astype("float32") for weight in layer.weights])
    return layer


def consecutive(last_query=S - 1, last_key=S - 1):
    """(B or 1, 1, T, 1) and (B or 1, 1, 1, S), as patterns hand them over."""
    query = np.arange(last_query - T + 1, last_query + 1, dtype="int32")
    key = np.arange(last_key - S + 1, last_key + 1, dtype="int32")
    return ops.array(query[None, None, :, None]), ops.array(key[None, None, None, :])


def wave(distance):
    frequencies = 10000.0 ** (-np.arange(0, E, 2) / E)
    return np.concatenate([np.sin(distance * frequencies), np.cos(distance * frequencies)])


def test_the_shift_equals_a_gather():
    scores = rng.normal(size=(B, H, T, S)).astype("float32")
    shifted = array(relative_shift(scores))
    compared = 0
    for i, j in np.ndindex(T, S):
        if j <= S - T + i:
            np.testing.assert_array_equal(shifted[:, :, i, j], scores[:, :, i, j + T - 1 - i])
            compared += 1
    assert compared == T * S - T * (T - 1) // 2
    assert not np.array_equal(shifted[:, :, 0, 1], scores[:, :, 0, 1 + T])  # a column further would show


@pytest.mark.parametrize("clamp_length, last_key", [(None, S - 1), (4, S - 1), (None, S + 1)],
                         ids=["plain", "clamped", "free slots behind"])
def test_attention_agrees_with_the_formula(clamp_length, last_key):
    """((q + u) . k + (q + v) . (W s(t))) / sqrt(D), over the keys that are not after the query."""
    layer = made(clamp_length)
    content, position = (array(weight) for weight in (layer.biases.content, layer.biases.position))
    kernel = array(layer.projection.kernel).reshape(E, H, D)
    query = rng.normal(size=(B, T, H, D)).astype("float32")
    key = rng.normal(size=(B, S, H, D)).astype("float32")
    places = consecutive(last_key=last_key)
    shifted = layer.shift_query(ops.array(query))
    bias = array(layer.score_bias(shifted, *places))
    assert bias.shape == (B, H, T, S)
    scores = np.einsum("bthd,bshd->bhts", array(shifted), key) / math.sqrt(D) + bias
    told_apart = 0
    for b, h, i, j in np.ndindex(B, H, T, S):
        distance = int(array(places[0])[0, 0, i, 0] - array(places[1])[0, 0, 0, j])
        if distance < 0:
            continue
        there = wave(min(distance, clamp_length or distance)) @ kernel[:, h]
        q = query[b, i, h]
        expected = ((q + content[h]) @ key[b, j, h] + (q + position[h]) @ there) / math.sqrt(D)
        assert scores[b, h, i, j] == pytest.approx(expected, abs=1e-4)
        swapped = ((q + position[h]) @ key[b, j, h] + (q + content[h]) @ there) / math.sqrt(D)
        told_apart += abs(swapped - expected) > 0.01
    assert told_apart > 100


def test_only_the_distance_matters():
    layer = made()
    query = ops.array(rng.normal(size=(B, T, H, D)).astype("float32"))
    here, there, other = (array(layer.score_bias(query, *consecutive(*last)))
                          for last in ((S - 1, S - 1), (S + 6, S + 6), (S, S - 1)))
    np.testing.assert_array_equal(here, there)
    assert np.abs(other - here).max() > 0.1


def test_what_cannot_be_seen_does_not_matter():
    """Where the shift leaves numbers that mean nothing, the mask puts others, whatever they are."""
    layer = Attention(H, D, E, mask=Causal(), position=made(), use_bias=False)
    layer.build((B, S, E))
    x = rng.normal(size=(B, S, E)).astype("float32")
    key = np.arange(S, dtype="int32")[None]
    positions = Positions(key, key, key, None)
    expected = array(layer(x, positions)[0])
    score_bias = layer.position.score_bias

    def spoiled(query, query_positions, key_positions, rows=0):
        hidden = ops.convert_to_tensor(np.triu(np.ones((S, S), bool), 1 - rows))
        return ops.where(hidden, 1e6, score_bias(query, query_positions, key_positions))

    layer.position.score_bias = spoiled
    np.testing.assert_array_equal(array(layer(x, positions)[0]), expected)
    layer.position.score_bias = lambda *arguments: spoiled(*arguments, rows=1)  # what is seen does matter
    assert np.abs(array(layer(x, positions)[0]) - expected).max() > 0.1


def test_layers_that_are_handed_the_same_biases_share_them():
    shared = QueryBiases(H, D)
    first, second, own = made(biases=shared), made(biases=shared), made()
    assert first.biases is second.biases is shared
    assert len({id(weight) for layer in (first, second, own) for weight in layer.weights}) == 2 + 3 + 2


def test_dropout_is_for_training_only():
    layer = TransformerXLPositions(H, D, E, dropout=0.5)
    attention = Attention(H, D, E, mask=Causal(), position=layer)
    attention.build((B, S, E))
    key = np.arange(S, dtype="int32")[None]
    x, positions = rng.normal(size=(B, S, E)).astype("float32"), Positions(key, key, key, None)
    expected = array(attention(x, positions)[0])
    np.testing.assert_array_equal(array(attention(x, positions, training=False)[0]), expected)
    assert np.abs(array(attention(x, positions, training=True)[0]) - expected).max() > 1e-3


def test_round_trip():
    layer = made(clamp_length=4)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    if not again.built:
        again.build(None)
    again.set_weights(layer.get_weights())
    query = ops.array(rng.normal(size=(B, T, H, D)).astype("float32"))
    np.testing.assert_array_equal(array(again.score_bias(query, *consecutive())),
                                  array(layer.score_bias(query, *consecutive())))
    assert again.rotate("as it is", None) == "as it is"


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="`clamp_length` must be at least 1, or None. Received: 0"):
        TransformerXLPositions(H, D, E, clamp_length=0)
    with pytest.raises(ValueError, match="must be even for sinusoidal positions. Received: 7"):
        TransformerXLPositions(H, D, 7)


# The same scores without a shift.

def anywhere(scale=None):
    layer = TransformerXLRelative(H, D, E, scale)
    layer.build(None)
    layer.set_weights([rng.normal(size=weight.shape).astype("float32") for weight in layer.weights])
    return layer


def test_without_a_shift_the_scores_are_the_same():
    shifting, layer = made(), anywhere()
    layer.set_weights([array(weight) for weight in shifting.weights])
    query = ops.array(rng.normal(size=(B, T, H, D)).astype("float32"))
    expected, found = (array(each.score_bias(query, *consecutive())) for each in (shifting, layer))
    seen = np.arange(S) <= S - T + np.arange(T)[:, None]
    np.testing.assert_allclose(found[..., seen], expected[..., seen], atol=1e-4)
    assert np.abs(found - expected)[..., ~seen].max() > 0.1  # where the shift's numbers mean nothing


@pytest.mark.parametrize("rows", [1, B])
def test_keys_may_stand_anywhere(rows):
    """(q + v) . (W s(t)) times the scale, for keys before and after the query."""
    layer = anywhere(scale=0.3)
    kernel, position = array(layer.projection.kernel).reshape(E, H, D), array(layer.biases.position)
    query = rng.normal(size=(B, T, H, D)).astype("float32")
    queries, keys = (rng.integers(0, 500, (rows, size)).astype("int32") for size in (T, S))
    bias = array(layer.score_bias(layer.shift_query(ops.array(query)), ops.array(queries[:, None, :, None]),
                                  ops.array(keys[:, None, None])))
    assert bias.shape == (B, H, T, S)
    for b, h, i, j in np.ndindex(B, H, T, S):
        there = wave(int(queries[b % rows, i]) - int(keys[b % rows, j])) @ kernel[:, h]
        assert bias[b, h, i, j] == pytest.approx(0.3 * (query[b, i, h] + position[h]) @ there, abs=1e-3)


@pytest.mark.parametrize("mask", [Causal(), Everything()], ids=["causal", "both-ways"])
@pytest.mark.parametrize("pattern", [Blockwise(4), BlockLocal(4), SlidingWindow(3), Strided(3), BlockSparse(3)],
                         ids=lambda pattern: type(pattern).__name__)
def test_every_pattern_asks_for_the_same(pattern, mask):
    """What a pattern computes from blocks is dense attention under its rule."""
    layer, padding = anywhere(), np.ones((B, S), bool)
    padding[0, :2] = False
    query, key, value = rng.normal(size=(3, B, S, H, D)).astype("float32")

    def attend(how):
        return in_one(lambda query, key, value: how(
            query, key, value, locate(np.zeros((B, S), "int32"), padding), mask, layer))(query, key, value)

    found, expected = attend(pattern.attend), attend(lambda *inputs: Pattern.attend(pattern, *inputs))
    np.testing.assert_allclose(found[padding], expected[padding], atol=1e-4)
    layer.biases.position.assign(layer.biases.position + 1.0)
    assert np.abs(attend(pattern.attend) - expected)[padding].max() > 0.01


@pytest.mark.parametrize("mask, pattern, words", [
    (Everything(), Full(), "Full under Everything"), (Causal(), BlockLocal(4), "BlockLocal under Causal"),
    (Recent(3), Blockwise(4), "Blockwise under Recent")])
def test_a_shift_is_refused_where_it_means_nothing(mask, pattern, words):
    with pytest.raises(ValueError, match=f"needs all keys up to the query, in order.*{words}.*TransformerXLRelative"):
        Attention(H, D, mask=mask, position=TransformerXLPositions(H, D, E), pattern=pattern)


def test_round_trip_of_the_form_without_a_shift():
    layer = anywhere(scale=0.5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is TransformerXLRelative and again.scale == 0.5 and again.hidden_dim == E

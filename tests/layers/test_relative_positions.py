"""Biases by distance: the buckets are those of the reference, and the table is shared."""
import math

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import Attention, Causal, RelativePositionBias, locate
from kzoo.layers.relative_positions import relative_buckets

B, T, S, H, N, M = 2, 5, 7, 3, 12, 10  # N buckets, M the largest distance
rng = np.random.default_rng(0)


def array(x):
    return ops.convert_to_numpy(x)


def reference_bucket(distance, num_buckets, max_distance, bidirectional):
    """The published formula, with its logarithm in float32; `distance` is key - query."""
    offset = 0
    if bidirectional:
        num_buckets //= 2
        offset = num_buckets * (distance > 0)
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = num_buckets // 2
    if distance < exact:
        return offset + distance
    ratio = np.log(np.float32(distance) / np.float32(exact)) / np.float32(math.log(max_distance / exact))
    return offset + min(exact + int(ratio * np.float32(num_buckets - exact)), num_buckets - 1)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("num_buckets, max_distance", [(32, 128), (N, M), (8, 9), (7, 20), (64, 1000)])
def test_buckets_equal_the_reference_at_all_distances(num_buckets, max_distance, bidirectional):
    found = relative_buckets(num_buckets, max_distance, bidirectional)
    assert found.dtype == np.int32 and len(found) == 2 * max_distance + 1
    for distance in range(-2 * max_distance, 2 * max_distance + 1):
        place = min(max(distance, -max_distance), max_distance) + max_distance
        assert found[place] == reference_bucket(distance, num_buckets, max_distance, bidirectional), distance
    assert found.max() == num_buckets // 2 * 2 - 1 if bidirectional else num_buckets - 1
    assert (found != relative_buckets(num_buckets, max_distance, not bidirectional)).any()


def bias_at(query, key, layer):
    return array(layer.score_bias(None, query[:, None, :, None], key[:, None, None, :]))


@pytest.mark.parametrize("bidirectional", [True, False])
def test_bias_is_the_row_of_the_distances_bucket(bidirectional):
    layer = RelativePositionBias(H, N, M, bidirectional)
    layer.build(None)
    table = rng.normal(size=(N, H)).astype("float32")
    layer.set_weights([table])
    query = np.array([[0, 1, 2, 3, 40], [9, 9, 8, 7, 6]], "int32")
    key = np.array([[0, 1, 2, 3, 4, 5, 50], [0, 3, 6, 9, 12, 15, 18]], "int32")
    bias = bias_at(query, key, layer)
    assert bias.shape == (B, H, T, S)
    for b, h, t, s in np.ndindex(B, H, T, S):
        bucket = reference_bucket(int(key[b, s] - query[b, t]), N, M, bidirectional)
        assert bias[b, h, t, s] == table[bucket, h]
    np.testing.assert_array_equal(bias_at(query + 7, key + 7, layer), bias)  # the distance alone matters
    assert np.abs(bias_at(query + 1, key, layer) - bias).max() > 0.1


def test_layers_that_are_handed_one_table_share_it():
    position = RelativePositionBias(H, N, M, bidirectional=False)
    layers = [Attention(H, 4, mask=Causal(), position=position) for _ in range(2)]
    for layer in layers:
        layer.build((B, T, 12))
    assert len({id(layer.position.embeddings) for layer in layers}) == 1
    x, positions = rng.normal(size=(B, T, 12)).astype("float32"), locate(np.zeros((B, T), "int32"))
    before = [array(layer(x, positions)[0]) for layer in layers]
    position.set_weights([rng.normal(size=(N, H)).astype("float32")])
    assert all(np.abs(array(layer(x, positions)[0]) - old).max() > 0.01
               for layer, old in zip(layers, before, strict=True))


def test_round_trip():
    layer = RelativePositionBias(H, N, M, False, keras.initializers.RandomNormal(stddev=0.3))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    for each in (layer, again):
        each.build(None) if not each.built else None
    again.set_weights(layer.get_weights())
    positions = np.arange(T, dtype="int32")[None]
    np.testing.assert_array_equal(bias_at(positions, positions, again), bias_at(positions, positions, layer))
    assert again.rotate("as it is", None) == again.shift_query("as it is") == "as it is"


@pytest.mark.parametrize("arguments, words", [
    ((H, 3, 10), "`num_buckets` must be at least 2, and 4 .* Received: 3"),
    ((H, 12, 3), "`max_distance` must be at least 4 for 12 buckets. Received: 3"),
    ((H, 12, 6, False), "`max_distance` must be at least 7 for 12 buckets. Received: 6"),
])
def test_what_makes_no_buckets_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        RelativePositionBias(*arguments)

"""Attention block by block equals attention to all at once, in what it gives and in its gradients."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import (
    ALiBi,
    Attention,
    Blockwise,
    Causal,
    Everything,
    Full,
    NoPosition,
    RelativePositionBias,
    ShawRelative,
    locate,
)
from tests.layers.pattern_reference import (
    CASES,
    LEFT,
    B,
    T,
    assert_cached,
    assert_dense,
    assert_round_trip,
    assert_scores_explain,
    attend,
    dear_on_jax,
)

E, H, D, SIZE = 9, 4, 6, 5
rng = np.random.default_rng(1)
x, weights = rng.normal(size=(2, B, T, E)).astype("float32")


def positions():
    normal = keras.initializers.RandomNormal(stddev=0.5, seed=1)
    return {"none": NoPosition(), "alibi": ALiBi(), "buckets": RelativePositionBias(H, 8, 16, initializer=normal),
            "shaw": ShawRelative(D, 2, initializer=normal)}


def layer_with(pattern, position, dropout=0.0):
    layer = Attention(H, D, E, num_key_value_heads=2, mask=Causal(), position=positions()[position], pattern=pattern,
                      dropout=dropout)
    layer.build((B, T, E))
    draw = np.random.default_rng(2)
    for weight in layer.trainable_weights:
        weight.assign(draw.normal(0, 0.4, weight.shape))
    return layer


def loss_of(layer, training=False):
    """A sum over what real tokens get, whose gradients reach every weight."""
    return lambda: ops.sum(layer(x, locate(np.zeros((B, T), "int32"), LEFT), training=training)[0]
                           * weights * LEFT[..., None])


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_dense_attention(case):
    assert_dense(Blockwise(SIZE), lambda q, k, h: True, case)
    assert_scores_explain(Blockwise(SIZE), case)


@pytest.mark.parametrize("position", ["shaw"] + ["alibi", "buckets"] * (keras.backend.backend() != "jax"))
def test_gradients_are_those_of_full_attention(position, gradients):
    full, blocks = layer_with(Full(), position), layer_with(Blockwise(SIZE), position)
    expected, found = gradients(full, loss_of(full)), gradients(blocks, loss_of(blocks))
    assert len(expected) == len(found) == 8 + {"alibi": 0, "buckets": 1, "shaw": 2}[position]
    for variable, one, other in zip(full.trainable_variables, found, expected, strict=True):
        assert np.abs(other).max() > 0.01 or "key/bias" in variable.path  # which moves all scores of a query alike
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1, np.abs(other).max()), err_msg=variable.path)
    full.mask = Everything()
    changed = gradients(full, loss_of(full))
    assert max(np.abs(one - other).max() for one, other in zip(found, changed, strict=True)) > 0.1


@dear_on_jax
def test_a_query_that_sees_nothing_gets_the_mean():
    nothing = np.zeros((B, T), bool)
    places = locate(np.zeros((B, T), "int32"), nothing)
    draw = np.random.default_rng(3).normal(size=(3, B, T, H, D)).astype("float32")
    mixed = ops.convert_to_numpy(Blockwise(SIZE).attend(*draw, places, Everything(), NoPosition()))
    np.testing.assert_allclose(mixed, np.broadcast_to(draw[2].mean(axis=1, keepdims=True), mixed.shape), atol=1e-5)


def test_the_same_weights_are_dropped_forwards_and_backwards(gradients):
    """What the loss becomes along its gradient is what the gradient says: with other masks it would not be."""
    layer = layer_with(Blockwise(SIZE), "none", dropout=0.5)
    state = layer.dropout.seed_generator.state
    seed = ops.convert_to_numpy(state)

    def same_draw():
        state.assign(seed)
        return loss_of(layer, training=True)()

    found = gradients(layer, same_draw)
    # On the JAX backend `gradients` compiles, and compiled draws are the same as those of single operations.
    values = [ops.convert_to_numpy(variable) for variable in layer.trainable_variables]
    length = np.sqrt(sum((each ** 2).sum() for each in found))
    losses = []
    for step in (1e-2, -1e-2):
        for variable, before, gradient in zip(layer.trainable_variables, values, found, strict=True):
            variable.assign(before + step * gradient / length)
        losses.append(float(same_draw()))
    assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(length, rel=0.01)
    assert losses[0] != pytest.approx(float(loss_of(layer)()), rel=0.01)  # something was dropped




def test_a_cache_is_gone_on_from():
    assert_cached(Blockwise(SIZE))


@dear_on_jax
def test_half_precision_stays_near():
    half = [each.astype("float16") for each in np.random.default_rng(4).normal(size=(3, B, T, H, D))]
    places = locate(np.zeros((B, T), "int32"), LEFT)
    one, other = (ops.convert_to_numpy(pattern.attend(*map(ops.convert_to_tensor, half), places, Causal(), ALiBi()))
                  for pattern in (Blockwise(SIZE), Full()))
    assert one.dtype == "float16"
    np.testing.assert_allclose(one[LEFT], other[LEFT], atol=5e-3)


def test_round_trip_and_refusal():
    assert_round_trip(Blockwise(7))
    with pytest.raises(ValueError, match="`block_size` must be at least 1. Received: 0"):
        Blockwise(0)
    assert attend(Blockwise(64), "causal")[0].shape == (B, T, H, D)  # shorter than a block

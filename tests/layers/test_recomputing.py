"""Recomputed activations give the gradients of those that are kept, with the same weights and features dropped."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import (
    Attention,
    Blockwise,
    Causal,
    Context,
    FeedForward,
    Full,
    LayerNormalization,
    TransformerBlock,
    locate,
)
from kzoo.layers.recomputing import recompute

B, T, E, H = 2, 7, 12, 3
x = np.random.default_rng(0).normal(size=(B, T, E)).astype("float32")
PADDING = np.array([[0, 0] + [1] * 5, [1] * 7], bool)


def block_of(pattern):
    block = TransformerBlock(Attention(H, E // H, E, mask=Causal(), pattern=pattern, dropout=0.4),
                             FeedForward(17, E, dropout=0.3), LayerNormalization(1e-5), LayerNormalization(1e-5),
                             dropout=0.5)
    block.build((B, T, E))
    draw = np.random.default_rng(1)
    for weight in block.trainable_weights:
        weight.assign(draw.normal(0, 0.4, weight.shape))
    return block


# On JAX compiling makes a case dear, and this one has all that the other has.
@pytest.mark.parametrize("pattern", [Blockwise(4)] + [Full()] * (keras.backend.backend() != "jax"), ids=str)
def test_gradients_are_those_of_what_is_kept(pattern, gradients):
    block = block_of(pattern)
    states = block.non_trainable_variables
    before = [ops.convert_to_numpy(state) for state in states]
    assert len(states) == 3

    def with_draws(run, moved=0):
        for state, value in zip(states, before, strict=True):
            state.assign(value + np.array([0, moved], value.dtype))
        return gradients(block, lambda: ops.sum(run() ** 2 * PADDING[..., None]))

    def kept():
        return block(x, locate(np.zeros((B, T), "int32"), PADDING), training=True)[0]

    def recomputed():
        return recompute(block, ops.convert_to_tensor(x), locate(np.zeros((B, T), "int32"), PADDING), training=True)

    expected, found, others = with_draws(kept), with_draws(recomputed), with_draws(recomputed, moved=1)
    largest = max(np.abs(each).max() for each in expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * largest)
    assert max(np.abs(one - other).max() for one, other in zip(found, others, strict=True)) > 0.1


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="each operation would be compiled for itself")
def test_generators_are_as_far_on_as_without():
    states = []
    for run in (lambda block, places: block(x, places, training=True)[0],
                lambda block, places: recompute(block, ops.convert_to_tensor(x), places, training=True)):
        keras.utils.set_random_seed(0)
        block = block_of(Full())
        first, second = (ops.convert_to_numpy(run(block, locate(np.zeros((B, T), "int32")))) for _ in range(2))
        assert np.abs(first - second).max() > 0.1
        states.append([first, second])
    np.testing.assert_allclose(*states, atol=1e-5)


class Translator(keras.layers.Layer):
    """An encoder of one product, and a decoder block that attends to it."""

    def __init__(self):
        super().__init__()
        self.encoder = keras.layers.Dense(E)
        self.block = TransformerBlock(Attention(H, E // H, E, mask=Causal()), FeedForward(17, E), LayerNormalization(
            1e-5), LayerNormalization(1e-5), dropout=0.5, cross_attention=Attention(H, E // H, E, dropout=0.3),
            cross_attention_norm=LayerNormalization(1e-5))

    def build(self, shape):
        self.encoder.build(shape)
        self.block.build(shape)

    def call(self, x, again, cut=False):
        places = locate(np.zeros((B, T), "int32"))
        hidden_states = self.encoder(ops.flip(x, axis=1))
        context = Context(ops.stop_gradient(hidden_states) if cut else hidden_states, places)
        if again:
            return recompute(self.block, x, places, training=True, context=context)
        return self.block(x, places, context=context, training=True)[0]


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="the block above shows it, and compiling is dear")
def test_gradients_reach_what_a_decoder_attends_to(gradients):
    model = Translator()
    model.build((B, T, E))
    before = [ops.convert_to_numpy(state) for state in model.non_trainable_variables]

    def found(**options):
        for state, value in zip(model.non_trainable_variables, before, strict=True):
            state.assign(value)
        # Each variable has a part in it, if only times 0.
        return gradients(model, lambda: ops.sum(model(ops.convert_to_tensor(x), **options) ** 2) + 0 * sum(
            ops.sum(variable) for variable in model.encoder.trainable_variables))

    expected, again, cut = found(again=False), found(again=True), found(again=True, cut=True)
    for one, other in zip(again, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max() + 1e-7)
    assert np.abs(expected[0]).max() > 0.1 and not cut[0].any()

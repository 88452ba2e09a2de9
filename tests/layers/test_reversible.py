"""The reversible stack: its formula, equality with the plain stack in loss and gradients, and its memory."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.backend import compile_function, differentiate
from kzoo.layers import (
    Attention,
    Causal,
    FeedForward,
    LayerNormalization,
    LSHAttention,
    Positions,
    ReversibleBlock,
    ReversibleStack,
)
from kzoo.layers.reversible import SEED_STEP

not_on_jax = pytest.mark.skipif(keras.backend.backend() == "jax",
                                reason="on JAX this compiles for long, and what it tests is the same there")
B, T, E = 2, 12, 6
AT = np.arange(T, dtype="int32")[None]
POSITIONS = Positions(AT, AT, AT, np.arange(T) < np.array([[T], [9]]))
rng = np.random.default_rng(0)
x = rng.normal(size=(B, T, E)).astype("float32")
upstream = rng.normal(size=(B, T, 2 * E)).astype("float32")


def stack(reversible=True, dropout=0.0):
    attention = (LSHAttention(3, 4, E, 4, 2, 4, mask=Causal(), dropout=dropout, seed=5, name="attention"),
                 Attention(3, 4, E, mask=Causal(), dropout=dropout, name="attention"))
    made = ReversibleStack([ReversibleBlock(
        layer, FeedForward(2 * E, E, dropout=dropout, name="feed_forward"),
        LayerNormalization(1e-5, name="attention_norm"), LayerNormalization(1e-5, name="feed_forward_norm"),
        dropout=dropout, name=f"block_{i}") for i, layer in enumerate(attention)], reversible, name="stack")
    made.build((None, None, E))
    return made


def same_weights(made, other):
    for one, two in zip(made.variables, other.variables, strict=True):
        one.assign(two)
    return made


@pytest.fixture(scope="module")
def plain():
    made = stack(reversible=False, dropout=0.3)
    for variable in made.trainable_variables:
        variable.assign(np.random.default_rng(len(variable.path)).normal(0, 0.5, variable.shape))
    return made


@not_on_jax
def test_agrees_with_the_formula(plain):
    """y1 = x1 + attention(norm(x2)), y2 = x2 + feed_forward(norm(y1)), side by side."""
    def written_out(x):
        first = second = x
        for block in plain.blocks:
            first = first + block.attention(block.attention_norm(second), POSITIONS)[0]
            second = second + block.feed_forward(block.feed_forward_norm(first))
        return ops.concatenate([first, second], axis=-1), plain(x, POSITIONS)

    expected, result = compile_function(plain, written_out)(ops.convert_to_tensor(x))
    np.testing.assert_allclose(ops.convert_to_numpy(result), ops.convert_to_numpy(expected), atol=1e-6)
    assert np.abs(ops.convert_to_numpy(result)[..., :E] - ops.convert_to_numpy(result)[..., E:]).max() > 0.1


def in_training(made):
    """A function: the output in training, the gradient of every weight. Its argument is added to dropout's seeds."""
    def pulled(seeds, *values):
        def output(*values):
            state = [(variable, variable + ops.cast(seeds, variable.dtype))
                     for variable in made.non_trainable_variables if "seed" in variable.path]
            with keras.StatelessScope(state_mapping=[*zip(made.trainable_variables, values, strict=True), *state]):
                return made(ops.convert_to_tensor(x), POSITIONS, training=True)

        result, pull = differentiate(output, *values)
        return result, pull(ops.convert_to_tensor(upstream))

    compiled = compile_function(made, pulled)

    def run(seeds=0):
        values = [ops.copy(variable) for variable in made.trainable_variables]
        y, found = compiled(ops.convert_to_tensor(seeds, "int32"), *values)
        return ops.convert_to_numpy(y), [ops.convert_to_numpy(each) for each in found]

    return run


def test_loss_and_gradients_equal_the_plain_stacks(plain):
    """With dropout: the backward pass draws what the forward pass drew, and attends within the same buckets."""
    expected, wanted = in_training(plain)()
    run = in_training(same_weights(stack(dropout=0.3), plain))
    y, found = run()
    np.testing.assert_allclose(y, expected, atol=1e-5)
    assert len(wanted) == len(found) == len(plain.trainable_variables) == 27
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * max(1, np.abs(other).max()))
    without, others = run(seeds=1)  # other dropout
    assert np.abs(without - expected).max() > 0.1
    assert max(np.abs(one - other).max() for one, other in zip(others, wanted, strict=True)) > 0.1


@not_on_jax
def test_dropout_is_drawn_anew_at_each_call(plain):
    made = same_weights(stack(dropout=0.3), plain)
    seeds = [variable for variable in made.non_trainable_variables if "seed" in variable.path]
    before = [ops.convert_to_numpy(seed) for seed in seeds]
    first, second = (ops.convert_to_numpy(made(x, POSITIONS, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 0.1
    for seed, earlier in zip(seeds, before, strict=True):
        assert (ops.convert_to_numpy(seed) - earlier).tolist() == [0, 2 * SEED_STEP]
    for variable, state in zip(seeds, before, strict=True):
        variable.assign(state)
    np.testing.assert_array_equal(ops.convert_to_numpy(made(x, POSITIONS, training=True)), first)
    np.testing.assert_array_equal(ops.convert_to_numpy(made(x, POSITIONS)), ops.convert_to_numpy(plain(x, POSITIONS)))


@not_on_jax
def test_round_trip():
    made = stack(reversible=False, dropout=0.2)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert not again.reversible and [type(block.attention).__name__ for block in again.blocks] == [
        "LSHAttention", "Attention"]
    assert [variable.shape for variable in again.variables] == [variable.shape for variable in made.variables]
    assert again.blocks[1].attention_dropout.rate == 0.2
    assert made.compute_output_shape((B, T, E)) == (B, T, 2 * E)


class NoAttention(keras.layers.Dense):
    """The call of an attention layer, without the time that compiling one would take."""

    def call(self, x, positions, memo=None, training=None):
        return super().call(x), memo


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX tells the memory of what it compiles")
def test_memory_of_the_gradient_does_not_grow_with_depth():
    import jax

    def memory(depth, reversible):
        made = ReversibleStack([ReversibleBlock(
            NoAttention(8, activation="tanh"), keras.layers.Dense(8, activation="tanh"), keras.layers.Identity(),
            keras.layers.Identity()) for _ in range(depth)], reversible)
        made.build((None, None, 8))

        def loss(values, x):
            with keras.StatelessScope(state_mapping=list(zip(made.trainable_variables, values, strict=True))):
                return ops.sum(ops.square(made(x, None, training=True)))

        values = [jax.ShapeDtypeStruct(variable.shape, "float32") for variable in made.trainable_variables]
        spec = jax.ShapeDtypeStruct((2, 500, 8), "float32")
        compiled = jax.jit(jax.grad(loss)).lower(values, spec).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    found = [memory(depth, True) for depth in (4, 8, 16)]
    assert max(found) < 1.1 * min(found)
    assert memory(8, False) > 1.6 * memory(4, False)

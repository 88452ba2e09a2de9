"""What the tests of models share."""
import keras
import numpy as np
import pytest


@pytest.fixture(scope="session")
def redraw():
    """A function that draws every weight of a model anew from N(0, 0.3), so that no offset is zero and no scale one.

    `scale` is the mean of the scales of norms. Around 0, one norm after another makes all tokens alike.
    """
    def redraw(model, seed=0, scale=0.0):
        rng = np.random.default_rng(seed)
        model.set_weights([rng.normal(scale * (weight.name == "scale"), 0.3, weight.shape).astype("float32")
                           for weight in model.weights])
        return model

    return redraw


@pytest.fixture(scope="session")
def gradients():
    """A function (model, loss) -> one array a trainable variable, for a loss of no arguments."""
    return {"tensorflow": _with_tape, "jax": _with_grad}[keras.backend.backend()]


def _with_tape(model, loss):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value = loss()
    values = [variable.value for variable in model.trainable_variables]
    return [keras.ops.convert_to_numpy(tf.convert_to_tensor(each)) for each in tape.gradient(value, values)]


def _with_grad(model, loss):
    import jax

    def of_values(values):
        with keras.StatelessScope(state_mapping=list(zip(model.trainable_variables, values, strict=True))):
            return loss()

    values = [variable.value for variable in model.trainable_variables]
    return [np.asarray(each) for each in jax.jit(jax.grad(of_values))(values)]

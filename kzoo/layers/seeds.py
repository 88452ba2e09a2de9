"""Seeds as tensors: what is drawn twice, forwards and once more to compute gradients, is drawn alike."""
import contextlib

import keras
import numpy as np
from keras import ops

from kzoo.layers.dropout import Dropout, drop


class GivenSeed(keras.random.SeedGenerator):
    """Hands out the seeds that another generator would, from a state that it is given; it changes nothing.

    Args:
        state: tensor (2,), the other generator's.

    Attributes:
        drawn: how many seeds were handed out.
    """

    def __init__(self, state):  # the base class would make a variable
        self._state = state
        self.drawn = 0

    def next(self, ordered=True):
        seed = self._state + ops.cast(np.array([0, self.drawn]), self._state.dtype)
        self.drawn += 1
        return seed


class WeightDropout:
    """Dropout of attention weights: a function of them, or of a part of them and a seed.

    Args:
        layer: a `Dropout`.
        training: as it is called.
    """

    def __init__(self, layer, training):
        self._layer = layer
        self._training = training

    def __call__(self, weights):
        return self._layer(weights, training=self._training)

    def draw(self):
        """A seed (2,) for `drop`, or None where nothing is dropped."""
        return self._layer.seed_generator.next() if self._training and self._layer.rate else None

    def drop(self, weights, seed, number):
        """Part `number` of the weights with some dropped; the same ones for the same seed and number."""
        return drop(weights, self._layer.rate, seed + ops.cast(number, seed.dtype))


def dropout_layers(layer):
    """Those inside a layer that drop anything, in a fixed order."""
    return [each for each in layer._flatten_layers() if isinstance(each, Dropout) and each.rate]


@contextlib.contextmanager
def given_seeds(layers, states):
    """Within it, dropout layers draw as their generators would from these states, and those stay as they are.

    Gives: the `GivenSeed` of each layer.
    """
    generators, given = [layer.seed_generator for layer in layers], [GivenSeed(state) for state in states]
    try:
        for layer, generator in zip(layers, given, strict=True):
            object.__setattr__(layer, "seed_generator", generator)  # Keras would take it for new state
        yield given
    finally:
        for layer, generator in zip(layers, generators, strict=True):
            object.__setattr__(layer, "seed_generator", generator)

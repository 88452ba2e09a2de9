"""Dropout whose mask costs little: a few integer operations a value, which XLA computes where the values are."""
import math

import keras
import numpy as np
from keras import ops

# Multipliers of a mixing of 32 bits in two rounds, found by search for little bias (Wellons 2018, "lowbias32"), and the
# golden ratio's bits.
FIRST, SECOND, GOLDEN = np.uint32(0x7FEB352D), np.uint32(0x846CA68B), np.uint32(0x9E3779B9)


@keras.saving.register_keras_serializable("kzoo")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout`, with a mask that is hashed from places instead of drawn by Philox or Threefry.

    Those cost up to a fifth of a training step on a CPU, where their wide products hardly run in vectors. What dropout
    needs is masks that look independent, not that nobody could tell them from noise.

    Args:
        rate: probability of dropping a value, 0 to 1.
        noise_shape: that of the mask, where values share it along axes of 1; None for an axis, or all, means the
            values' own.
        seed: of the generator whose state moves on at each call; None draws one.

    Source: Srivastava et al. 2014 (jmlr.org/papers/v15/srivastava14a.html), scaled while training.
    """

    def call(self, inputs, training=False):
        """A tensor of any shape to one of the same."""
        if not training or not self.rate:
            return inputs
        return drop(inputs, self.rate, self.seed_generator.next(), self.noise_shape)


def drop(x, rate, seed, noise_shape=None):
    """x with values set to 0 by chance, and the others divided by 1 - rate.

    Args:
        x: float tensor.
        rate: probability of dropping, 0 to 1, to within 2^-32.
        seed: integers (2,); the same ones drop the same places.
        noise_shape: see `Dropout`.
    """
    if rate == 1:
        return ops.zeros_like(x)
    shape = ops.shape(x)
    if noise_shape is not None:
        shape = tuple(size if own is None else own for size, own in zip(shape, noise_shape, strict=True))
    kept = ops.greater_equal(place_hash(shape, seed), np.uint32(min(round(rate * 2.0 ** 32), 2 ** 32 - 1)))
    return ops.where(kept, x * ops.cast(1.0 / (1.0 - rate), x.dtype), ops.cast(0.0, x.dtype))


def place_hash(shape, seed):
    """uint32 of this shape: for each place a number that looks drawn at random.

    One key is mixed in before the first round and one between the two: with a single key, masks of two seeds would hold
    the same numbers in another order.
    """
    seed = ops.cast(seed, "uint32")
    first = _mix(ops.bitwise_xor(_mix(seed[1] + GOLDEN), seed[0]))
    second = _mix(first + GOLDEN)
    place = ops.reshape(ops.arange(0, math.prod(shape), dtype="int32"), shape)
    return _mix(ops.bitwise_xor(ops.cast(place, "uint32"), first), second)


def _mix(bits, key=None):
    """Both rounds; multiplied numbers keep their low 32 bits."""
    bits = _fold(_fold(bits, 16) * FIRST, 15)
    return _fold((bits if key is None else bits + key) * SECOND, 16)


def _fold(bits, count):
    """High bits into low ones."""
    return ops.bitwise_xor(bits, ops.right_shift(bits, np.uint32(count)))

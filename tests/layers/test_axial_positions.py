"""Axial positions against their formula."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import AxialPositions

pytestmark = pytest.mark.skipif(keras.backend.backend() == "jax",
                                reason="on JAX this compiles for long, and what it tests is the same there")
SHAPE, DIMS = (3, 5), (2, 7)


def test_agrees_with_the_formula():
    layer = AxialPositions(SHAPE, DIMS, keras.initializers.RandomNormal(stddev=1.0))
    layer.build(None)
    first, second = (ops.convert_to_numpy(weight) for weight in layer.weights)
    assert first.shape == (3, 1, 2) and second.shape == (1, 5, 7)
    positions = np.array([[0, 4, 5, 14], [13, 7, 2, 1]], "int32")
    expected = np.array([[np.concatenate([first[p // 5, 0], second[0, p % 5]]) for p in row] for row in positions])
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(positions)), expected)
    assert layer.compute_output_shape((2, 4)) == (2, 4, 9)
    # All differ, and the other order of the axes is another table.
    table = ops.convert_to_numpy(layer(np.arange(15, dtype="int32")[None]))[0]
    assert len(np.unique(table.round(5), axis=0)) == 15
    assert np.abs(table[1, :2] - table[0, :2]).max() == 0 and np.abs(table[1, 2:] - table[0, 2:]).max() > 0.1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="`shape` and `dims` must be two numbers each.*Received: .3, 5, 2. and .2, 7."):
        AxialPositions((3, 5, 2), DIMS)


def test_round_trip():
    layer = AxialPositions(SHAPE, DIMS, keras.initializers.RandomNormal(stddev=0.3), name="positions")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (again.shape, again.dims, again.initializer.stddev, again.name) == (SHAPE, DIMS, 0.3, "positions")

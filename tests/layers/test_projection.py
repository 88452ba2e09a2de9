"""Dense layers on sequences."""
import keras
import numpy as np
from keras import ops

from kzoo.layers.projection import project

B, T, E, H, D = 2, 3, 5, 7, 11
rng = np.random.default_rng(3)


def test_agrees_with_the_matrix_product():
    dense = keras.layers.Dense(H * D)
    dense.build((None, E))
    dense.set_weights([rng.normal(size=(E, H * D)), rng.normal(size=(H * D,))])
    kernel, bias = dense.get_weights()
    x = rng.normal(size=(B, T, E)).astype("float32")
    expected = x @ kernel + bias
    np.testing.assert_allclose(ops.convert_to_numpy(project(dense, x)), expected, atol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(project(dense, x, (H, D))), expected.reshape(B, T, H, D), atol=1e-5)


def test_serves_tensors_of_unknown_length():
    x = keras.Input((None, E))
    dense = keras.layers.Dense(H * D)
    dense.build((None, E))

    class Projected(keras.layers.Layer):
        def call(self, x):
            return project(dense, x, (H, D))

    model = keras.Model(x, Projected()(x))
    assert model.output_shape == (None, None, H, D)
    assert model(np.zeros((B, T, E), "float32")).shape == (B, T, H, D)

"""Learned positions of very long texts, as pairs of coordinates with a small table each."""
import keras
from keras import ops


@keras.saving.register_keras_serializable("kzoo")
class AxialPositions(keras.layers.Layer):
    """Position p of n1 * n2 is the vector of p // n2 beside the vector of p % n2: n1 + n2 vectors instead of n1 * n2.

    Args:
        shape: (n1, n2).
        dims: (d1, d2), widths of the two vectors.
        initializer: of both tables.

    Source: Kitaev et al. 2020, section 5 names them (arXiv 2001.04451); the layout is that of the authors' code. There
    a text that is trained on has to have n1 * n2 tokens; here a shorter one will do, which trains the vectors it uses.
    """

    def __init__(self, shape, dims, initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.shape, self.dims = tuple(shape), tuple(dims)
        if len(self.shape) != 2 or len(self.dims) != 2 or min(self.shape + self.dims) < 1:
            raise ValueError("`shape` and `dims` must be two numbers each, of at least 1. "
                             f"Received: {self.shape} and {self.dims}.")
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        (n1, n2), (d1, d2) = self.shape, self.dims
        self.first = self.add_weight(name="first", shape=(n1, 1, d1), initializer=self.initializer.clone())
        self.second = self.add_weight(name="second", shape=(1, n2, d2), initializer=self.initializer.clone())

    def call(self, positions):
        """int32 (B or 1, T), below n1 * n2 -> (B or 1, T, d1 + d2)."""
        columns = self.shape[1]
        first = ops.take(ops.cast(self.first, self.compute_dtype)[:, 0], positions // columns, axis=0)
        second = ops.take(ops.cast(self.second, self.compute_dtype)[0], positions % columns, axis=0)
        return ops.concatenate([first, second], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape, sum(self.dims))

    def get_config(self):
        return {**super().get_config(), "shape": self.shape, "dims": self.dims,
                "initializer": keras.initializers.serialize(self.initializer)}

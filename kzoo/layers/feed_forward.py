"""The position-wise feed-forward network, plain or gated."""
import math

import keras
from keras import ops

from kzoo.errors import unknown
from kzoo.layers.dropout import Dropout
from kzoo.layers.projection import project


def gelu(x):
    """x * Phi(x) with the exact normal distribution function.

    Through erf: TensorFlow lowers Keras' exact GELU to erfc, which does not convert to ONNX.
    Source: Hendrycks and Gimpel 2016 (arXiv 1606.08415).
    """
    return 0.5 * x * (1.0 + ops.erf(x * (1.0 / math.sqrt(2.0))))


def gelu_tanh(x):
    """The tanh approximation of GELU, the activation of GPT-2."""
    return ops.gelu(x, approximate=True)


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu": ops.relu, "silu": ops.silu, "tanh": ops.tanh}


def get_activation(name):
    if name not in ACTIVATIONS:
        raise ValueError(unknown("activation", name, ACTIVATIONS))
    return ACTIVATIONS[name]


@keras.saving.register_keras_serializable("kzoo")
class FeedForward(keras.layers.Layer):
    """activation(x W_up) W_down, or gated: (activation(x W_gate) * x W_up) W_down.

    Args:
        intermediate_dim: F, the width inside.
        hidden_dim: E, the width of the output.
        activation: a name of `ACTIVATIONS`.
        gated: True multiplies by a second projection.
        use_bias: False leaves out the offsets.
        dropout: probability of dropping a feature inside, after the activation, 0 to 1.
        kernel_initializer, output_initializer: of the projections in, and of the one out.
        chunk_size: compute so many tokens at a time, so that F features of all of them never stand in memory together;
            None computes all at once, as does a length that is not known when the model is traced.

    Source: Vaswani et al. 2017, equation 2 (arXiv 1706.03762); gated: Shazeer 2020, equation 6 (arXiv 2002.05202);
    in chunks: Kitaev et al. 2020, section 3 (arXiv 2001.04451).
    """

    def __init__(self, intermediate_dim, hidden_dim, activation="gelu", gated=False, use_bias=True, dropout=0.0,
                 kernel_initializer="glorot_uniform", output_initializer="glorot_uniform", chunk_size=None,
                 **kwargs):
        super().__init__(**kwargs)
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"`chunk_size` must be at least 1, or None. Received: {chunk_size}.")
        self.chunk_size = chunk_size
        self.intermediate_dim = intermediate_dim
        self.hidden_dim = hidden_dim
        self.activation = activation
        self.gated = gated
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.output_initializer = keras.initializers.get(output_initializer)
        self._activate = get_activation(activation)
        self.dropout = Dropout(dropout, dtype=self.dtype_policy, name="dropout")
        common = dict(use_bias=use_bias, dtype=self.dtype_policy)
        self.gate = None
        if gated:
            self.gate = keras.layers.Dense(
                intermediate_dim, kernel_initializer=self.kernel_initializer.clone(), name="gate", **common)
        self.up = keras.layers.Dense(
            intermediate_dim, kernel_initializer=self.kernel_initializer.clone(), name="up", **common)
        self.down = keras.layers.Dense(
            hidden_dim, kernel_initializer=self.output_initializer.clone(), name="down", **common)

    def build(self, input_shape):
        for layer in (self.gate, self.up):
            if layer is not None:
                layer.build((None, input_shape[-1]))
        self.down.build((None, self.intermediate_dim))

    def call(self, x, training=None):
        """(B, T, E) -> (B, T, E)."""
        length = x.shape[1]
        if self.chunk_size is None or not isinstance(length, int) or length <= self.chunk_size:
            return self._compute(x, training)
        return ops.concatenate([self._compute(x[:, start:start + self.chunk_size], training)
                                for start in range(0, length, self.chunk_size)], axis=1)

    def _compute(self, x, training):
        hidden = project(self.up, x)  # (B, T, F)
        hidden = self._activate(hidden) if self.gate is None else self._activate(project(self.gate, x)) * hidden
        return project(self.down, self.dropout(hidden, training=training))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.hidden_dim)

    def get_config(self):
        return {**super().get_config(), "intermediate_dim": self.intermediate_dim, "hidden_dim": self.hidden_dim,
                "activation": self.activation, "gated": self.gated, "use_bias": self.use_bias,
                "dropout": self.dropout.rate, "chunk_size": self.chunk_size,
                "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
                "output_initializer": keras.initializers.serialize(self.output_initializer)}

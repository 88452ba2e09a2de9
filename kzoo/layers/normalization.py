"""Normalisation over the last axis."""
import keras
from keras import ops


def layer_normalization(x, scale, bias, epsilon):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis, in float32.

    Written out in this order because runtimes recognise it as one operator; Keras' own form they do not.

    Source: Ba et al. 2016, equation 4 (arXiv 1607.06450).
    """
    mean = ops.mean(x, axis=-1, keepdims=True)
    # The variance's derivative by the mean is zero. Said so, XLA sums the gradient of a residual stream once;
    # otherwise each layer sums it again over all the layers above.
    variance = ops.mean(ops.square(x - ops.stop_gradient(mean)), axis=-1, keepdims=True)
    y = (x - mean) / ops.sqrt(variance + epsilon) * scale
    return y if bias is None else y + bias


def rms_normalization(x, scale, epsilon):
    """x / sqrt(mean(x^2) + epsilon) * scale over the last axis, in float32.

    Source: Zhang and Sennrich 2019, equation 4 (arXiv 1910.07467).
    """
    return x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + epsilon) * scale


@keras.saving.register_keras_serializable("kzoo")
class LayerNormalization(keras.layers.Layer):
    """Layer normalisation with an explicit epsilon: families differ in it, and a wrong one is hard to see.

    Args:
        epsilon: added to the variance.
        use_bias: False leaves out the offset.
    """

    def __init__(self, epsilon, use_bias=True, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon
        self.use_bias = use_bias

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer="ones")
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros")

    def call(self, x):
        y = layer_normalization(ops.cast(x, "float32"), *_in_float32(self.scale, self.bias), self.epsilon)
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("kzoo")
class RMSNormalization(keras.layers.Layer):
    """Root-mean-square normalisation: no centring, no offset.

    Args:
        epsilon: added to the mean square.
    """

    def __init__(self, epsilon, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.scale = self.add_weight(name="scale", shape=(input_shape[-1],), initializer="ones")

    def call(self, x):
        y = rms_normalization(ops.cast(x, "float32"), *_in_float32(self.scale), self.epsilon)
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape


def _in_float32(*weights):
    return [None if weight is None else ops.cast(weight, "float32") for weight in weights]

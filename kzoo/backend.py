"""The few things that differ between Keras backends and that `keras.ops` does not cover."""
import functools

import keras


def compile_function(model, function, jit=None):
    """`function` of tensors, compiled, with the model's current weights at every call.

    Args:
        model: the Keras model whose variables `function` reads.
        function: takes and returns (nested) tensors; reads no other state.
        jit: True compiles with XLA; None does so where it pays, which for decoding is not the CPU: there the time is
            in reading weights, and compiling for each shape costs seconds.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        use_xla = gpu_available() if jit is None else jit
        # One tf.function a shape, each of a callable of its own: TensorFlow warns when one is traced often, which here
        # is the plan, and takes two functions for one if they share their code.
        by_shape = {}

        def compiled(*arguments):
            key = tuple(tuple(tensor.shape) for tensor in tf.nest.flatten(arguments))
            if key not in by_shape:
                by_shape[key] = tf.function(functools.partial(function), jit_compile=use_xla, autograph=False)
            return by_shape[key](*arguments)

        return compiled
    if backend == "jax":
        import jax

        variables = model.variables

        @jax.jit
        def stateless(values, *arguments):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return function(*arguments)

        return lambda *arguments: stateless([variable.value for variable in variables], *arguments)
    return function


def gpu_available():
    """True if the backend computes on a GPU or another accelerator."""
    return any("cpu" not in device.lower() for device in keras.distribution.list_devices())


def differentiate(function, *inputs):
    """`function(*inputs)`, one tensor, and how gradients flow back through it.

    Args:
        function: pure: it reads no variables.
        inputs: float tensors.

    Returns: (output, pull); `pull` takes the gradient of the output and gives one for each input.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = function(*inputs)

        def pull(upstream):
            found = tape.gradient(output, inputs, upstream, unconnected_gradients="zero")
            return tuple(tf.convert_to_tensor(each) for each in found)

        return output, pull
    if backend == "jax":
        import jax

        return jax.vjp(function, *inputs)
    raise NotImplementedError(f"Gradients computed anew are written for TensorFlow and JAX, not for {backend}.")

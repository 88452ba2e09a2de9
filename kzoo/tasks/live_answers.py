"""The live Keras model as answering text sees it."""
import numpy as np
from keras import ops

from kzoo.backend import compile_function


class LiveRun:
    """Arrays by name in, arrays by name out, compiled once a shape and always with the weights of now.

    Args:
        model: a task model.
    """

    def __init__(self, model):
        self.name = model.output_name
        self._compiled = compile_function(model, lambda inputs: model(inputs, training=False))

    def __call__(self, inputs):
        result = self._compiled({name: ops.convert_to_tensor(array) for name, array in inputs.items()})
        result = result if isinstance(result, dict) else {self.name: result}
        return {name: np.asarray(ops.convert_to_numpy(tensor)) for name, tensor in result.items()}

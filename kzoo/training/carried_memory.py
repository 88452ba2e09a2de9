"""A model with a memory, as `fit` sees it: each batch goes on where the one before ended."""
import keras
from keras import ops

from kzoo.layers import MemoryCache


class CarriedMemory(keras.Model):
    """A language model that begins every row of a batch with the memory of the same row of the batch before.

    The memory is kept in variables that are not trained, so that it is saved and resumed with all the others. Compile
    and fit it in the model's place; the model's own weights are what learns.

    Inputs: dict with `token_ids` (B, T), and `begins` bool (B,), True for rows that forget what came before; optionally
    `padding_mask` (B, T).
    Output: that of the model.

    Args:
        model: a `CausalLM` whose backbone is recurrent.
        batch_size: B.
    """

    def __init__(self, model, batch_size, **kwargs):
        super().__init__(**kwargs)
        if not model.backbone.recurrent:
            raise ValueError(f"`model` must have a memory to carry. Received: a {model.family.name!r}.")
        self.language_model = model
        empty = model.backbone.empty_cache(batch_size)
        self.memory = [self.add_weight(name=f"memory_{i}", shape=layer.hidden_states.shape, initializer="zeros",
                                       dtype=layer.hidden_states.dtype, trainable=False, autocast=False)
                       for i, layer in enumerate(empty)]
        self.memory_mask = self.add_weight(name="memory_mask", shape=empty[0].padding_mask.shape, initializer="zeros",
                                           dtype="bool", trainable=False)
        self.built = True

    def call(self, inputs, training=None):
        inputs = dict(inputs)
        begins = ops.cast(inputs.pop("begins"), "bool")
        mask = ops.cast(self.memory_mask, "bool")
        cache = tuple(MemoryCache(ops.convert_to_tensor(layer), mask).forget(begins) for layer in self.memory)
        outputs, cache = self.language_model.forward(inputs, cache, training)
        for variable, layer in zip(self.memory, cache, strict=True):
            variable.assign(layer.hidden_states)
        self.memory_mask.assign(cache[0].padding_mask)
        return outputs

    def compute_output_shape(self, input_shape):
        return self.language_model.compute_output_shape(input_shape)

"""What every family's backbone has in common: one forward pass, a config, a cache."""
import keras
from keras import ops

from kzoo.layers.cache import GrowingCache, StaticCache
from kzoo.layers.part_names import EXACT, part_name
from kzoo.layers.pooling import first_token
from kzoo.layers.recomputing import recompute

FINITE = 64504.0  # a little below the largest float16


class Backbone(keras.Model):
    """Token ids to hidden states.

    A family sets `config_class`, makes its layers in `__init__` and writes `forward`. `call`, the Keras way in, is
    `forward` without a cache.

    Args:
        config: the family's frozen config.

    Attributes:
        recurrent: the cache is a memory of fixed length: a text of any length is read in segments, each of which has a
            padding mask of its own.
    """

    config_class = None
    recurrent = False

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config

    def forward(self, inputs, cache=None, training=None):
        """The one pass for training, prefill, decode and export.

        Args:
            inputs: dict with `token_ids` (B, T) int32, optionally `padding_mask` (B, S) bool over all keys and
                `positions` (B or 1, T) int32; see `kzoo.layers.locate`.
            cache: tuple of one cache a layer, or None.

        Returns: (hidden_states, cache): (B, T, E), and the tuple to pass to the next call (None if none was given).
        """
        raise NotImplementedError(f"{type(self).__name__} must define `forward`.")

    def run_blocks(self, blocks, x, positions, cache=None, context=None, training=None):
        """Through the layers of a stack, computed once more for gradients if the config says so.

        Args:
            x: (B, T, E).
            positions, context: see `TransformerBlock.call`.
            cache: tuple of one cache a layer, or None.

        Returns: (x, cache): (B, T, E), and the tuple to pass to the next call (None if none was given).
        """
        new_cache, again = [], self.config.gradient_checkpointing and training and cache is None
        for i, block in enumerate(blocks):
            if again:
                x, layer_cache = recompute(block, x, positions, training, context), None
            else:
                x, layer_cache = block(x, positions, cache and cache[i], context, training=training)
            if keras.backend.standardize_dtype(x.dtype) == "float16":
                # Published pre-norm models have features that float16 cannot hold; the largest it has serves as well.
                x = ops.clip(x, -FINITE, FINITE)
            new_cache.append(layer_cache)
        return x, cache and tuple(new_cache)

    def first_states(self, inputs, training=None):
        """(B, E): the hidden states of each row's first real token; inputs are those of `forward`.

        A family that can leaves out of its last layer what these do not need.
        """
        return first_token(self.forward(inputs, training=training)[0], inputs.get("padding_mask"))

    def logits(self, hidden_states):
        """(B, T, E) -> float32 (B, T, V), read out with the embedding, for a language model."""
        return self.token_embedding.logits(hidden_states)

    def token_embeddings(self):
        """The layers that turn token ids into features, in the order in which a forward pass asks them."""
        return (self.token_embedding,)

    def complete_inputs(self, inputs, task):
        """The inputs of `forward`, with what a task chooses where the caller did not; most families leave no choice."""
        return inputs

    def call(self, inputs, training=None):
        return self.forward(check_inputs(inputs), training=training)[0]

    def empty_cache(self, batch_size, capacity=None):
        """One empty cache a layer: growing, or of `capacity` slots."""
        heads, width = self.config.key_value_shape()
        make = GrowingCache.empty if capacity is None else StaticCache.empty
        sizes = (batch_size,) if capacity is None else (batch_size, capacity)
        return tuple(make(*sizes, heads, width, self.compute_dtype) for _ in range(self.num_cached_layers()))

    @property
    def output_dim(self):
        """Width of the hidden states."""
        return self.config.hidden_dim

    def make_output_layer(self):
        """The layer from hidden states to logits that a language model adds to the backbone, not built; None: it asks
        `logits` instead."""
        return None

    def export_obstacle(self):
        """Why the model cannot be exported, in a sentence; None where it can."""
        return None

    def num_cached_layers(self):
        """How many layers have a cache."""
        return self.config.num_layers

    def build_from_config(self, config):
        self.build(None)  # shapes follow from the config alone

    def compute_output_shape(self, input_shape):
        return (*input_shape["token_ids"], self.output_dim)

    def get_config(self):
        return {"config": self.config.to_dict(), "name": self.name,
                "dtype": keras.saving.serialize_keras_object(self.dtype_policy)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "config": cls.config_class.from_dict(config["config"])})


def check_inputs(inputs, required=("token_ids",)):
    """The dict of inputs, with ids as int32 and masks as bool; plain words where it is not one."""
    if not isinstance(inputs, dict):
        raise TypeError(f"Model inputs are a dict with {', '.join(f'`{name}`' for name in required)}. "
                        f"Received: {type(inputs).__name__}.")
    missing = [name for name in required if name not in inputs]
    if missing:
        raise ValueError(f"Model inputs lack `{missing[0]}`. Received: {', '.join(sorted(inputs)) or 'an empty dict'}.")
    return {name: ops.cast(value, "bool" if name.endswith("_mask") else "int32")
            for name, value in inputs.items() if value is not None}


def check_length(token_ids, longest, name="token_ids", field="max_sequence_length"):
    """Raise ValueError for rows of more tokens than the model has positions for, where the length is known."""
    length = token_ids.shape[1]
    if isinstance(length, int) and length > longest:
        raise ValueError(f"`{name}` has {length} tokens a row; `{field}` is {longest}.")


def refuse_pattern(model_type, config):
    """Raise ValueError for a pattern that Hugging Face's class would not compute."""
    if part_name(config.pattern) not in EXACT:
        raise ValueError(f"Hugging Face's {model_type!r} has no room for `pattern`={config.pattern!r}; keep it in the "
                         "kzoo format.")

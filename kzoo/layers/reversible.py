"""Blocks whose input can be computed from their output, so that training need not keep what lies between.

Source: Gomez et al. 2017 (arXiv 1707.04585); for transformers: Kitaev et al. 2020, section 3 (arXiv 2001.04451).
"""
import keras
from keras import ops

from kzoo.backend import differentiate
from kzoo.layers.dropout import Dropout

LAYERS = ("attention", "feed_forward", "attention_norm", "feed_forward_norm")
# How far the seeds of dropout move on at each call: further than a call draws.
SEED_STEP = 1024


@keras.saving.register_keras_serializable("kzoo")
class ReversibleBlock(keras.layers.Layer):
    """A layer on two streams: y1 = x1 + attention(norm(x2)), y2 = x2 + feed_forward(norm(y1)).

    Args:
        attention: a layer that answers (y, memo) to (x, positions, memo); the memo is what it chose by x, such as hash
            buckets, and is handed back when y is computed once more. None where there is nothing to remember.
        feed_forward: a layer.
        attention_norm, feed_forward_norm: their normalisation layers.
        dropout: probability of dropping a feature of what is added, 0 to 1.
    """

    def __init__(self, attention, feed_forward, attention_norm, feed_forward_norm, dropout=0.0, **kwargs):
        super().__init__(**{**kwargs, "autocast": False})  # the streams stay as they are
        self.attention = attention
        self.feed_forward = feed_forward
        self.attention_norm = attention_norm
        self.feed_forward_norm = feed_forward_norm
        self.attention_dropout, self.feed_forward_dropout = (
            Dropout(dropout, dtype=self.dtype_policy, name=name)
            for name in ("attention_dropout", "feed_forward_dropout"))

    def build(self, first_shape, *args, **kwargs):
        for name in LAYERS:
            layer = getattr(self, name)
            if not layer.built:  # one that comes out of a saved config is built already
                layer.build(first_shape)

    def attend(self, x, positions, memo=None, training=None):
        """(what is added to the first stream, memo) for the second stream (B, T, E)."""
        y, memo = self.attention(self.attention_norm(x), positions, memo, training=training)
        return ops.cast(self.attention_dropout(y, training=training), "float32"), memo

    def feed(self, x, training=None):
        """What is added to the second stream, for the first (B, T, E)."""
        y = self.feed_forward(self.feed_forward_norm(x), training=training)
        return ops.cast(self.feed_forward_dropout(y, training=training), "float32")

    def call(self, first, second, positions, training=None):
        """Both streams, float32 (B, T, E), after the block."""
        first = first + self.attend(second, positions, training=training)[0]
        return first, second + self.feed(first, training=training)

    def compute_output_shape(self, first_shape, *args, **kwargs):
        return first_shape, first_shape

    def get_config(self):
        layers = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in LAYERS}
        return {**super().get_config(), **layers, "dropout": self.attention_dropout.rate}

    @classmethod
    def from_config(cls, config):
        layers = {name: keras.saving.deserialize_keras_object(config[name]) for name in LAYERS}
        return cls(**{**config, **layers})


@keras.saving.register_keras_serializable("kzoo")
class ReversibleStack(keras.layers.Layer):
    """Blocks one after another on two streams that begin as one: (B, T, E) -> float32 (B, T, 2 E), side by side.

    Args:
        blocks: the `ReversibleBlock`s.
        reversible: in training, keep only the output; the backward pass computes each block's input from its output,
            with the memos and the dropout of the forward pass, and so costs one more forward pass. False keeps what
            lies between, as other models do. Loss and gradients are the same.

    The streams are float32 also where layers compute in half precision: what is subtracted must be what was added.
    """

    def __init__(self, blocks, reversible=True, **kwargs):
        super().__init__(**kwargs)
        self.blocks = list(blocks)
        self.reversible = reversible

    def build(self, x_shape, *args, **kwargs):
        for block in self.blocks:
            if not block.built:
                block.build(x_shape)

    def call(self, x, positions, training=None):
        """x (B, T, E) and the `Positions` of the call."""
        x = ops.cast(x, "float32")
        if self.reversible and training:
            return self._recomputed(ops.concatenate([x, x], axis=-1), positions)
        first = second = x
        for block in self.blocks:
            first, second = block(first, second, positions, training=training)
        return ops.concatenate([first, second], axis=-1)

    def _recomputed(self, streams, positions):
        """A pure function of streams and weights with a gradient of its own; all else is held fixed."""
        states = [[(variable, _read(variable)) for variable in block.non_trainable_variables] for block in self.blocks]
        branches = [_branches(block) for block in self.blocks]
        counts = [[len(variables) for variables in pair] for pair in branches]
        weights = [_value(variable) for pair in branches for variables in pair for variable in variables]

        def attend(i, x, weights, memo=None):
            mapping = list(zip(branches[i][0], weights, strict=True)) + states[i]
            with keras.StatelessScope(state_mapping=mapping):
                return self.blocks[i].attend(x, positions, memo, training=True)

        def feed(i, x, weights):
            mapping = list(zip(branches[i][1], weights, strict=True)) + states[i]
            with keras.StatelessScope(state_mapping=mapping):
                return self.blocks[i].feed(x, training=True)

        @ops.custom_gradient
        def run(streams, *weights):
            parts, memos, start = [], [], 0
            for for_attention, for_feed in counts:
                middle, end = start + for_attention, start + for_attention + for_feed
                parts.append((weights[start:middle], weights[middle:end]))
                start = end
            first, second = ops.split(streams, 2, axis=-1)
            for i, (for_attention, for_feed) in enumerate(parts):
                added, memo = attend(i, second, for_attention)
                memos.append(memo)
                first = first + added
                second = second + feed(i, first, for_feed)
            output = ops.concatenate([first, second], axis=-1)

            def gradient(upstream):
                first, second = ops.split(output, 2, axis=-1)
                up_first, up_second = ops.split(upstream, 2, axis=-1)
                found = []
                for i, (for_attention, for_feed) in reversed(list(enumerate(parts))):
                    added, pull = differentiate(lambda x, *weights, i=i: feed(i, x, weights), first, *for_feed)
                    by_first, *by_feed = pull(up_second)
                    second, up_first = second - added, up_first + by_first
                    added, pull = differentiate(
                        lambda x, *weights, i=i: attend(i, x, weights, memos[i])[0], second, *for_attention)
                    by_second, *by_attention = pull(up_first)
                    first, up_second = first - added, up_second + by_second
                    found = [*by_attention, *by_feed, *found]
                return (ops.concatenate([up_first, up_second], axis=-1), *found)

            return output, gradient

        return run(streams, *weights)

    def compute_output_shape(self, x_shape, *args, **kwargs):
        return (*x_shape[:-1], 2 * x_shape[-1])

    def get_config(self):
        return {**super().get_config(), "reversible": self.reversible,
                "blocks": [keras.saving.serialize_keras_object(block) for block in self.blocks]}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "blocks": [keras.saving.deserialize_keras_object(block) for block in config["blocks"]]})


def _branches(block):
    """Trainable variables of the two branches of a block."""
    return [[*norm.trainable_variables, *layer.trainable_variables]
            for norm, layer in ((block.attention_norm, block.attention), (block.feed_forward_norm, block.feed_forward))]


def _read(variable):
    """A variable's value for both passes. Whole numbers are the states of seeds, which move on for the next call."""
    value = _value(variable)
    if keras.backend.standardize_dtype(value.dtype).startswith(("int", "uint")):
        variable.assign(value + ops.cast([0, SEED_STEP], value.dtype))
    return value


def _value(variable):
    """What a variable holds now, as a tensor: TensorFlow would hand on the variable itself."""
    return ops.copy(ops.convert_to_tensor(variable))

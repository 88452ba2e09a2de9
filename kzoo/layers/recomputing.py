"""Gradient checkpointing: a block's activations are computed once more for its gradient instead of being kept."""
import keras

from kzoo.layers.seeds import dropout_layers, given_seeds


def recompute(block, x, positions, training=None, context=None):
    """`block(x, positions, context=context)` without a cache, of which only the input is kept for the backward pass.

    What is drawn at random is drawn by seeds that are handed in, so that both passes drop the same. Keras' own
    `RematScope` does not see to that, and fails in `fit`.

    Args:
        block: a `TransformerBlock`, or another layer that answers (y, cache).
        x: (B, T, E).
        positions: `Positions` of the call.
        context: `Context` of cross-attention, or None.

    Returns: (B, T, E).
    Source: Chen et al. 2016, section 4 (arXiv 1604.06174).
    """
    layers = dropout_layers(block) if training else []
    states, drawn = [layer.seed_generator.state.value * 1 for layer in layers], []

    # What has a gradient goes in as an argument: of other tensors it would be lost.
    def run(x, *hidden_states):
        seen = None if context is None else context._replace(hidden_states=hidden_states[0])
        with given_seeds(layers, states) as given:
            y = block(x, positions, context=seen, training=training)[0]
        drawn[:] = [each.drawn for each in given]
        return y

    y = keras.remat(run)(x, *([] if context is None else [context.hidden_states]))
    for layer, times in zip(layers, drawn, strict=True):  # as far on as if the layers had drawn themselves
        for _ in range(times):
            layer.seed_generator.next()
    return y

"""Gradient checkpointing: a block's activations are computed once more for its gradient instead of being kept."""
import keras

from kzoo.layers.seeds import dropout_layers, given_seeds


def recompute(block, x, positions, training=None):
    """`block(x, positions)` without a cache, of which only the input is kept for the backward pass.

    What is drawn at random is drawn by seeds that are handed in, so that both passes drop the same. Keras' own
    `RematScope` does not see to that, and fails in `fit`.

    Args:
        block: a `TransformerBlock`, or another layer that answers (y, cache).
        x: (B, T, E).
        positions: `Positions` of the call.

    Returns: (B, T, E).
    Source: Chen et al. 2016, section 4 (arXiv 1604.06174).
    """
    layers = dropout_layers(block) if training else []
    drawn = []

    def run(x, *states):
        with given_seeds(layers, states) as given:
            y = block(x, positions, training=training)[0]
        drawn[:] = [each.drawn for each in given]
        return y

    y = keras.remat(run)(x, *(layer.seed_generator.state.value * 1 for layer in layers))
    for layer, times in zip(layers, drawn, strict=True):  # as far on as if the layers had drawn themselves
        for _ in range(times):
            layer.seed_generator.next()
    return y

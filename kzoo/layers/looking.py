"""Looking inside: who attends to whom, from any pattern, as if all pairs had been compared."""
import contextlib
from typing import Any, NamedTuple

from keras import ops


class AttentionMap(NamedTuple):
    """What one attention layer did in one call.

    Weights are not explanations by themselves: others may give the same answer (Jain and Wallace 2019, N19-1357).

    Attributes:
        path: of the layer, such as "causal_lm/gpt2/block_0/attention".
        scores: float32 (B, H, T, S), before the softmax; very low for pairs that are not seen. Of a pattern that looks
            at summaries, a token has its share of its summary's.
        probabilities: float32 (B, H, T, S); every row sums to 1.
        values: (B, S, K, D).
        mixed: (B, T, H, D), what the layer made of them: probabilities times values, and what the position adds.
        global_mask: bool (B, T), True = a token that mixes `global_values` instead; None where there is none.
        global_values: (B, S, K, D), or None.
    """
    path: str
    scores: Any
    probabilities: Any
    values: Any
    mixed: Any
    global_mask: Any = None
    global_values: Any = None

    @classmethod
    def of_scores(cls, path, scores, *others):
        """With the probabilities that belong to the scores."""
        return cls(path, scores, ops.softmax(scores, axis=-1), *others)


def layer_path(projection):
    """The path of an attention layer, by a projection that is a part of it."""
    return projection.kernel.path.removesuffix("/kernel").rpartition("/")[0]


def attention_maps(model, inputs, **options):
    """One `AttentionMap` for each call of an attention layer while the model is called, in their order.

    Args:
        model: a Keras model or layer. A classifier's last layer may be asked for the first token alone, T = 1; its
            backbone answers for all.
        inputs, options: what it is called with; nothing is compiled.
    """
    with watched(model) as maps:
        model(inputs, **options)
    return maps


@contextlib.contextmanager
def watched(model):
    """Within it, layers that have an `attention_map` write that of every call into the list that it gives."""
    layers, maps = [layer for layer in model._flatten_layers() if hasattr(layer, "attention_map")], []

    def watch(layer):
        def call(*args, **kwargs):
            maps.append(layer.attention_map(*args, **kwargs))
            return type(layer).call(layer, *args, **kwargs)

        return call

    try:
        for layer in layers:  # past Keras, which would track it
            object.__setattr__(layer, "call", watch(layer))
        yield maps
    finally:
        for layer in layers:
            object.__delattr__(layer, "call")


def attention_rollout(probabilities):
    """How much of each token's first features reaches each token at the end, if attention were all that mixes them.

    A layer passes on half of a token as it is and half by the mean of its heads: A = 0.5 * mean_h P + 0.5 * I, with
    rows that sum to 1; the layers are multiplied.

    Args:
        probabilities: (H, T, T) of each layer, from the first to the last.

    Returns: (T, T).
    Source: Abnar and Zuidema 2020, section 3 (arXiv 2005.00928).
    """
    rollout = ops.eye(probabilities[0].shape[-1])
    for layer in probabilities:
        mixing = 0.5 * ops.mean(ops.convert_to_tensor(layer), axis=0) + 0.5 * ops.eye(layer.shape[-1])
        rollout = ops.matmul(mixing / ops.sum(mixing, axis=-1, keepdims=True), rollout)
    return rollout

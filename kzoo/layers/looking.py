"""Looking inside: who attends to whom, from any pattern, as if all pairs had been compared."""
import contextlib
from typing import Any, NamedTuple

from keras import ops

from kzoo.layers.attention import Attention


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
    """
    path: str
    scores: Any
    probabilities: Any
    values: Any
    mixed: Any


def attention_maps(model, inputs, **options):
    """One `AttentionMap` for each call of an `Attention` layer while the model is called, in their order.

    Args:
        model: a Keras model or layer.
        inputs, options: what it is called with; nothing is compiled.

    Raises: ValueError for a model with attention that compares in ways of its own, `has_map` False.
    """
    with watched(model) as maps:
        model(inputs, **options)
    return maps


@contextlib.contextmanager
def watched(model):
    """Within it, attention layers write an `AttentionMap` of every call into the list that it gives."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, Attention)]
    hidden = next((layer for layer in model._flatten_layers() if not getattr(layer, "has_map", True)), None)
    if hidden is not None:
        raise ValueError(f"{type(hidden).__name__} does not show yet whom it attends to; other attention does.")
    patterns, maps = [layer.pattern for layer in layers], []
    try:
        for layer, pattern in zip(layers, patterns, strict=True):
            layer.pattern = _Watched(layer, pattern, maps)
        yield maps
    finally:
        for layer, pattern in zip(layers, patterns, strict=True):
            layer.pattern = pattern


class _Watched:
    """A pattern in whose place it stands, and a list of what was seen."""

    def __init__(self, layer, pattern, maps):
        self._path = layer.query.kernel.path.removesuffix("/query/kernel")
        self._pattern = pattern
        self._maps = maps

    def attend(self, query, key, value, positions, mask, position, scale=None, **options):
        scores = self._pattern.scores(query, key, positions, mask, position, scale)
        mixed = self._pattern.attend(query, key, value, positions, mask, position, scale=scale, **options)
        self._maps.append(AttentionMap(self._path, scores, ops.softmax(scores, axis=-1), value, mixed))
        return mixed


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

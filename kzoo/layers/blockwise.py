"""Exact attention whose memory grows with the length, not with its square."""
import contextlib
import dataclasses
import functools
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from kzoo.backend import differentiate
from kzoo.layers.attention_function import MASKED_SCORE, attention_scores, weigh_values
from kzoo.layers.patterns import Pattern, column, dense_attention, row, value_bias, visible_pairs
from kzoo.layers.positions import Positions


@keras.saving.register_keras_serializable("kzoo")
@dataclasses.dataclass(frozen=True)
class Blockwise(Pattern):
    """What `Full` computes, a block of keys at a time: scores are never held for all pairs.

    A running maximum and sum make the softmax exact. The backward pass keeps only the logarithm of each row's sum, and
    computes the scores of each block once more. Dropout drops the same weights in both passes, though not those that
    `Full` would drop for the same seed.

    A few queries, at most `block_size`, are compared with all keys at once, and so are lengths that are unknown while a
    graph is traced: exported files of open length, and steps of decoding, have no loop.

    Attributes:
        block_size: W, keys at a time.

    Source: Milakov and Gimelshein 2018, algorithm 3 (arXiv 1805.02867), Rabe and Staats 2021 (arXiv 2112.05682); the
    backward pass: Dao et al. 2022, appendix B.2 (arXiv 2205.14135).
    """
    block_size: int = 512

    def __post_init__(self):
        if self.block_size < 1:
            raise ValueError(f"`block_size` must be at least 1. Received: {self.block_size}.")

    def attend(self, query, key, value, positions, mask, position, scale=None, dropout=None):
        length, key_length = query.shape[1], key.shape[1]
        if not all(isinstance(each, int) and each > self.block_size for each in (length, key_length)):
            return dense_attention(query, key, value, positions, mask, position, scale=scale, dropout=dropout)
        rule = _BlockRule(mask, position, scale, dropout, key_length, self.block_size)
        seed = dropout and dropout.draw()
        places = [positions.query, rule.cut(ops.convert_to_tensor(positions.key))]        # (B or 1, T), (N, B or 1, W)
        places += [rule.cut(positions.padding_mask)] if positions.padding_mask is not None else []
        places += [seed] if seed is not None else []

        def name(places):
            rest = iter(places[2:])
            return _Places(*places[:2], None if positions.padding_mask is None else next(rest),
                           None if seed is None else next(rest))

        # Times 1: TensorFlow would otherwise hand in the variables themselves, and miss their gradients.
        variables = [variable.value * 1 for variable in rule.variables]
        attend = ops.custom_gradient(lambda query, keys, values, *rest: _attend(
            rule, name(rest[:len(places)]), query, keys, values, rest[len(places):], len(places)))
        mixed = attend(query, rule.cut(key), rule.cut(value), *places, *variables)
        return ops.cast(mixed, value.dtype)


class _Places(NamedTuple):
    """What is known of queries and keys besides their features, and has no gradient.

    Attributes:
        query: int32 (B or 1, T).
        keys: int32 (N, B or 1, W).
        real: boolean (N, B, W), or None where all are.
        seed: of dropout, (2,), or None.
    """
    query: object
    keys: object
    real: object
    seed: object


def _attend(rule, places, query, keys, values, variables, num_places):
    """Forward pass and its gradient, as `ops.custom_gradient` wants them.

    Everything that is not constant is handed in: a gradient finds its way to nothing else.

    Args:
        rule: `_BlockRule`.
        places: `_Places`, of so many tensors.
        query: (B, T, H, D); keys, values: (N, B, W, K, D); variables: what the biases are made of.
    """
    nothing = ops.transpose(ops.zeros_like(ops.cast(query[..., 0], "float32")), (0, 2, 1))  # (B, H, T)

    def by_token(x):
        return ops.expand_dims(ops.transpose(x, (0, 2, 1)), 3)                              # (B, T, H, 1)

    def step(number, state):
        largest, total, mixed = state
        key, value = ops.take(keys, number, axis=0), ops.take(values, number, axis=0)
        scores = rule.scores(places, number, query, key, *variables)                        # (B, H, T, W)
        new = ops.maximum(largest, ops.max(scores, axis=-1))
        weights, shrink = ops.exp(scores - ops.expand_dims(new, 3)), ops.exp(largest - new)
        total = total * shrink + ops.sum(weights, axis=-1)
        added = rule.mix(places, number, ops.cast(weights, value.dtype), value, *variables)
        return new, total, mixed * by_token(shrink) + ops.cast(added, "float32")

    largest, total, mixed = ops.fori_loop(0, keys.shape[0], step, (
        nothing + 4 * MASKED_SCORE, nothing, ops.repeat(by_token(nothing), values.shape[-1], axis=3)))
    mixed = mixed / by_token(total)                                                         # (B, T, H, D)
    log_total = largest + ops.log(total)                                                    # (B, H, T)

    def gradient(*arguments, upstream=None):
        upstream = ops.cast(arguments[0] if upstream is None else upstream, "float32")
        # The sum over keys of weight times the gradient of the weight: mixing is linear in the weights.
        mean = ops.transpose(ops.sum(upstream * mixed, axis=3), (0, 2, 1))                  # (B, H, T)

        def step(number, found):
            of_query, of_keys, of_values, *of_variables = found
            key, value = ops.take(keys, number, axis=0), ops.take(values, number, axis=0)
            scores, pull_scores = differentiate(functools.partial(rule.scores, places, number), query, key, *variables)
            weights = ops.exp(scores - ops.expand_dims(log_total, 3))                       # (B, H, T, W)
            added, pull_mixed = differentiate(
                functools.partial(rule.mix, places, number), ops.cast(weights, value.dtype), value, *variables)
            of_weights, of_value, *through_values = pull_mixed(ops.cast(upstream, added.dtype))
            of_scores = weights * (ops.cast(of_weights, "float32") - ops.expand_dims(mean, 3))
            through_query, of_key, *through_scores = pull_scores(of_scores)
            place = (number, 0, 0, 0, 0)
            return (of_query + ops.cast(through_query, "float32"),
                    ops.slice_update(of_keys, place, ops.expand_dims(of_key, 0)),
                    ops.slice_update(of_values, place, ops.expand_dims(of_value, 0)),
                    *(sum(each) for each in zip(of_variables, through_scores, through_values, strict=True)))

        of_query, of_keys, of_values, *of_variables = ops.fori_loop(0, keys.shape[0], step, (
            ops.zeros_like(ops.cast(query, "float32")), *(ops.zeros_like(each) for each in (keys, values, *variables))))
        return ops.cast(of_query, query.dtype), of_keys, of_values, *[None] * num_places, *of_variables

    return mixed, gradient


class _BlockRule:
    """How the scores of a block of keys are made, and how its values are mixed: both pure in what they are called with.

    Attributes:
        variables: what the position's biases are made of, as Keras variables.
    """

    def __init__(self, mask, position, scale, dropout, length, size):
        self._mask, self._position, self._scale, self._dropout = mask, position, scale, dropout
        self._length, self._size = length, size
        self._count = -(-length // size)
        there = np.arange(self._count * size) < length
        self._there = there.reshape(self._count, 1, size) if length % size else None
        self.variables = list(getattr(position, "trainable_variables", ()))

    def cut(self, x):
        """(B, S, ...) -> (N, B, W, ...), filled up with zeros."""
        x = ops.pad(x, [[0, 0], [0, self._count * self._size - self._length]] + [[0, 0]] * (len(x.shape) - 2))
        return ops.swapaxes(ops.reshape(x, (-1, self._count, self._size, *x.shape[2:])), 0, 1)

    def scores(self, places, number, query, key, *variables):
        """float32 (B, H, T, W) of the block with this number."""
        positions = Positions(None, places.query, ops.take(places.keys, number, axis=0),
                              None if places.real is None else ops.take(places.real, number, axis=0))
        with self._with(variables):
            bias = self._position.score_bias(query, column(positions.query), row(positions.key))
        scores = attention_scores(query, key, visible_pairs(positions, self._mask), bias, self._scale)
        if self._there is None:
            return scores
        # Filling gets nothing even from a query that may see no key, which takes the mean of all of them.
        return ops.where(row(ops.take(self._there, number, axis=0)), scores, 2 * MASKED_SCORE)

    def mix(self, places, number, weights, value, *variables):
        """(B, T, H, D) of the weights (B, H, T, W) of a block; linear in them."""
        if places.seed is not None:
            weights = self._dropout.drop(weights, places.seed, number)
        mixed = weigh_values(weights, value)
        added = value_bias(self._position, column(places.query), row(ops.take(places.keys, number, axis=0)))
        if added is None:
            return mixed
        with self._with(variables):
            return mixed + added(weights)

    def _with(self, values):
        """The position computes with these values in the place of its variables."""
        if not self.variables:
            return contextlib.nullcontext()
        return keras.StatelessScope(state_mapping=list(zip(self.variables, values, strict=True)))

"""What the tests of patterns share: a sequence, dense attention in numpy under a rule, a way to compute a pattern."""
import types

import keras
import numpy as np
import pytest
from keras import ops

from kzoo.backend import compile_function
from kzoo.layers import ALiBi, Causal, Everything, NoPosition, Recent, locate
from kzoo.layers.attention_function import weigh_values
from kzoo.layers.positions import alibi_slopes

B, T, H, K, D = 2, 23, 4, 2, 6
SLOTS = np.arange(T)
rng = np.random.default_rng(0)
query = rng.normal(size=(B, T, H, D)).astype("float32")
key, value = rng.normal(size=(2, B, T, K, D)).astype("float32")
LEFT, RIGHT = np.ones((2, B, T), bool)
LEFT[0, :6] = RIGHT[0, -6:] = RIGHT[1, -1:] = False
# Together: every side of padding, every mask, with and without a bias.
CASES = {"causal": (Causal(), ALiBi(), LEFT), "both-ways": (Everything(), NoPosition(), RIGHT),
         "window": (Recent(9), NoPosition(), None)}
if keras.backend.backend() == "jax":  # where compiling makes a case dear
    del CASES["window"], CASES["both-ways"]
dear_on_jax = pytest.mark.skipif(keras.backend.backend() == "jax", reason="each operation would be compiled for itself")


def attend(pattern, case, inputs=(query, key, value)):
    """The pattern's answer (B, T, H, D), and the padding mask."""
    mask, position, padding = CASES[case]
    return in_one(lambda query, key, value: pattern.attend(
        query, key, value, locate(np.zeros((B, T), "int32"), padding), mask, position))(*inputs), padding


def in_one(function):
    """The function; on JAX as a compiled one, where each operation would else be compiled for itself."""
    if keras.backend.backend() == "jax":
        function = compile_function(types.SimpleNamespace(variables=[]), function)
    return lambda *inputs: keras.tree.map_structure(ops.convert_to_numpy, function(*inputs))


def dense(rule, case):
    """The same in numpy: `rule(q, k, h)` says whether head h at position q may look at position k."""
    mask, position, padding = CASES[case]
    real = np.ones((B, T), bool) if padding is None else padding
    result = np.zeros((B, T, H, D))
    for b, h in np.ndindex(B, H):
        slots = np.flatnonzero(real[b])  # the real tokens; position i is slot slots[i]
        at = np.arange(len(slots))
        seen = np.array([[rule(q, k, h) for k in at] for q in at])
        allowed = mask(at[:, None], at)
        seen = seen if allowed is None else seen & allowed
        scores = query[b, slots, h] @ key[b, slots, h // (H // K)].T / np.sqrt(D)
        if isinstance(position, ALiBi):
            scores = scores - alibi_slopes(H)[h] * np.abs(at[:, None] - at)
        weights = np.exp(scores) * seen
        result[b, slots, h] = weights / weights.sum(axis=1, keepdims=True) @ value[b, slots, h // (H // K)]
    return result


def assert_dense(pattern, rule, case):
    result, padding = attend(pattern, case)
    real = slice(None) if padding is None else padding
    np.testing.assert_allclose(result[real], dense(rule, case)[real], atol=1e-5)


def difference(pattern, rule, case):
    result, padding = attend(pattern, case)
    real = slice(None) if padding is None else padding
    return np.abs(result - dense(rule, case))[real].max()


def assert_scores_explain(pattern, case):
    """Probabilities of all pairs sum to 1, and times the values are the pattern's answer."""
    mask, position, padding = CASES[case]
    real = slice(None) if padding is None else padding

    def explained(query, key, value):
        scores = pattern.scores(query, key, locate(np.zeros((B, T), "int32"), padding), mask, position)
        probabilities = ops.softmax(scores, axis=-1)
        return probabilities, weigh_values(probabilities, value)

    probabilities, mixed = in_one(explained)(query, key, value)
    assert probabilities.shape == (B, H, T, T)
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    if padding is not None:
        unseen = ~np.broadcast_to(padding[:, None, None], (B, H, T, T)) & padding[:, None, :, None]
        assert probabilities[unseen].max() == 0
    np.testing.assert_allclose(mixed[real], attend(pattern, case)[0][real], atol=1e-5)


def assert_round_trip(pattern):
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(pattern)) == pattern


def assert_cached(pattern):
    """A few queries that go on from a cache see what they see in the whole sequence; and the rule says the same."""
    mask = Causal()
    whole = in_one(lambda query, key, value: pattern.attend(
        query, key, value, locate(np.zeros((B, T), "int32")), mask, NoPosition()))(query, key, value)
    positions = locate(np.zeros((B, T), "int32"))
    last = positions._replace(token=None, query=positions.query[:, -5:])
    cached = in_one(lambda query, key, value: pattern.attend(query, key, value, last, mask, NoPosition()))(
        query[:, -5:], key, value)
    np.testing.assert_allclose(cached, whole[:, -5:], atol=1e-5)
    earlier = last._replace(query=last.query - 1)
    moved = in_one(lambda query, key, value: pattern.attend(query, key, value, earlier, mask, NoPosition()))(
        query[:, -5:], key, value)
    assert np.abs(moved - cached).max() > 0.01

"""Errors that published tutorials make in an encoder: each, written into the formula, is told from our model.

An encoder of one layer is written out in numpy, in the loops of the paper, and once more with each of the errors.
"""
import math

import numpy as np
import pytest
from keras import ops

from kzoo.models.bert import BertBackbone, BertConfig

B, T, H, D = 2, 5, 3, 4  # all different: a swapped axis cannot pass
E, V = H * D, 29
CONFIG = BertConfig(vocabulary_size=V, num_layers=1, num_heads=H, hidden_dim=E, intermediate_dim=17,
                    max_sequence_length=V, dropout=0.1, attention_dropout=0.1)  # rows for each position, and each id
rng = np.random.default_rng(0)
TOKEN_IDS = rng.integers(0, V, (B, T))
PADDING_MASK = np.array([[True] * 5, [True] * 3 + [False] * 2])


@pytest.fixture(scope="module")
def backbone():
    model = BertBackbone(CONFIG)
    model.build()
    model.set_weights([rng.normal(weight.name == "scale", 0.3, weight.shape) for weight in model.weights])
    return model


def arrays(backbone):
    """name -> array: "attention/query/kernel" and so on, of the embeddings and the one block."""
    return {weight.path.removeprefix("bert/").removeprefix("block_0/"): ops.convert_to_numpy(weight).astype("float64")
            for weight in backbone.weights}


def norm(x, weights, name):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(x.var(axis=-1, keepdims=True) + CONFIG.layer_norm_epsilon) * weights[
        f"{name}/scale"] + weights[f"{name}/bias"]


def dense(x, weights, name):
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def attention(x, weights, real, error=None):
    """(T, E) -> (T, E) of one row."""
    heads = {name: dense(x, weights, f"attention/{name}").reshape(T, H, D) for name in ("query", "key", "value")}
    mixed = np.zeros((T, H, D))
    for h, t in np.ndindex(H, T):
        scores = heads["key"][:, h] @ heads["query"][t, h]
        if error != "scores that are not scaled":
            scores = scores / math.sqrt(E if error == "scores scaled by the model's width" else D)
        weight = np.exp(scores)
        if error != "a mask that is not used":
            weight = weight * real
        weight = weight / (1 if error == "weights that are not normalised" else weight.sum())
        mixed[t, h] = weight @ heads["key" if error == "keys mixed in place of values" else "value"][:, h]
    if error == "heads joined in the wrong order":
        mixed = mixed.transpose(1, 0, 2)
    return dense(mixed.reshape(T, E), weights, "attention/output")


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def encoder(backbone, error=None):
    """(B, T, E) of `TOKEN_IDS`."""
    weights, rows = arrays(backbone), []
    for ids, real in zip(TOKEN_IDS, PADDING_MASK, strict=True):
        places = ids if error == "positions looked up by token id" else np.arange(T)
        x = weights["token_embedding/embeddings"][ids] + weights["segment_embedding/embeddings"][0]
        x = x + weights["position_embedding/embeddings"][places]
        x = x if error == "no norm after the embeddings" else norm(x, weights, "embedding_norm")
        for name, branch in (
                ("attention", lambda x, real=real: attention(x, weights, real, error)),
                ("feed_forward", lambda x: dense(gelu(dense(x, weights, "feed_forward/up")), weights,
                                                 "feed_forward/down"))):
            y = branch(x)
            if error == "dropout that is left on":
                y = y * (np.arange(y.size).reshape(y.shape) % 10 != 3) / 0.9
            if error == "a linear layer on the residual":
                x = dense(x, weights, "attention/query")
            if error != "no residual":
                y = x + y
            if error == "an activation after the sum":
                y = np.maximum(y, 0)
            x = y if error == "no norm in the layer" else norm(y, weights, f"{name}_norm")
        rows.append(x)
    return np.array(rows)


@pytest.fixture(scope="module")
def result(backbone):
    return ops.convert_to_numpy(backbone({"token_ids": TOKEN_IDS, "padding_mask": PADDING_MASK}))


def test_the_encoder_is_the_formula(backbone, result):
    """One tensor of (B, T, E), not a pair with weights, and not (T, B, E)."""
    assert result.shape == (B, T, E)
    np.testing.assert_allclose(result[PADDING_MASK], encoder(backbone)[PADDING_MASK], atol=1e-5)


@pytest.mark.parametrize("error", [
    "keys mixed in place of values", "weights that are not normalised", "scores that are not scaled",
    "scores scaled by the model's width", "heads joined in the wrong order", "positions looked up by token id",
    "no norm after the embeddings", "no norm in the layer", "no residual", "a linear layer on the residual",
    "an activation after the sum", "a mask that is not used", "dropout that is left on"])
def test_an_error_would_be_seen(backbone, result, error):
    difference = np.abs(result - encoder(backbone, error))[PADDING_MASK]
    assert difference.max() > 0.01
    if error == "a mask that is not used":
        assert difference[:T].max() < 1e-5 < difference[T:].max()  # only the row with padding tells

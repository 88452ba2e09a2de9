"""The masked-LM head, and masks filled in."""
import numpy as np
import pytest
from keras import ops

from tests.tasks.encoders import INPUTS, PADDING_MASK, TOKENIZER, B, T, V, gelu, hidden_states, make, softmax, weights


@pytest.fixture(scope="module")
def model():
    return make("fill-mask", layer_norm_epsilon=0.03)


def written_out(model, states, activation=gelu):
    kernel, bias = weights(model.mask_transform)
    scale, offset = weights(model.mask_norm)
    x = activation(states @ kernel + bias)
    x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 0.03) * scale + offset
    table = ops.convert_to_numpy(model.backbone.token_embedding.embeddings)
    return x @ table.T + ops.convert_to_numpy(model.mask_bias)


def test_agrees_with_the_formula(model):
    result = ops.convert_to_numpy(model(INPUTS))
    assert result.shape == (B, T, V)
    states = hidden_states(model)
    np.testing.assert_allclose(result[PADDING_MASK], written_out(model, states)[PADDING_MASK], atol=1e-4)
    assert np.abs(result - written_out(model, states, activation=np.tanh)).max() > 0.01


def test_the_table_is_that_of_the_embedding(model):
    assert [path.split("/", 1)[1] for path in (weight.path for weight in model.weights) if "bert/" not in path] == [
        "mask_bias", "mask_transform/kernel", "mask_transform/bias", "mask_norm/scale", "mask_norm/bias"]


def test_masks_are_filled_with_what_the_model_finds_likeliest(model):
    text = "The [MASK] keeper counts [MASK]."
    ids = TOKENIZER.encode(text)
    logits = ops.convert_to_numpy(model({"token_ids": np.array([ids], "int32")}))[0]
    places = [place for place, index in enumerate(ids) if index == TOKENIZER.mask_id]
    answer = model(text, top_k=3)
    assert [len(mask) for mask in answer] == [3, 3]
    for place, mask in zip(places, answer, strict=True):
        scores = softmax(logits[place])
        best = np.argsort(-scores[:TOKENIZER.vocabulary_size])[:3]
        assert [each["token"] for each in mask] == [TOKENIZER.id_to_token(int(index)) for index in best]
        np.testing.assert_allclose([each["score"] for each in mask], scores[best], rtol=1e-4)
    together = model([text, "[MASK]"], top_k=3)
    assert [[each["token"] for each in mask] for mask in together[0]] == [
        [each["token"] for each in mask] for mask in answer]

"""Features: the mean or the first token, normalised or not, and a pooler that travels along."""
import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.checkpoint import variables_by_path
from tests.tasks.encoders import INPUTS, PADDING_MASK, TOKENIZER, B, E, hidden_states, make, outputs_for, weights

TEXTS = ["the ships pass", "a keeper", "the light of the lighthouse keeps the ships"]


def pooled(model, pooling):
    rows = [states[mask] for states, mask in zip(hidden_states(model), PADDING_MASK, strict=True)]
    if pooling == "mean":
        return np.array([row.mean(axis=0) for row in rows])
    first = np.array([row[0] for row in rows])
    if pooling == "cls":
        return first
    kernel, bias = weights(model.pooler)
    return np.tanh(first @ kernel + bias)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_agrees_with_the_formula(pooling, normalize):
    model = make("feature-extraction", pooling=pooling, normalize=normalize)
    expected = pooled(model, pooling)
    if normalize:
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    result = ops.convert_to_numpy(model(INPUTS))
    assert result.shape == (B, E)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    others = {"mean", "cls", "pooler"} - {pooling}
    assert all(np.abs(result - pooled(model, other)).max() > 0.01 for other in others)


def test_texts_have_vectors():
    model = make("feature-extraction", normalize=True)
    vectors = model(TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert vector.dtype == np.float32 and vector.shape == (E,)
        np.testing.assert_allclose(vector, outputs_for(model, text), atol=1e-6)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(model(TEXTS[0]), vectors[0], atol=1e-6)


def test_a_row_of_padding_alone_has_no_direction(gradients_of):
    model = make("feature-extraction", normalize=True)
    inputs = {**INPUTS, "padding_mask": np.array([[True] * 7, [False] * 7, [True] * 7])}
    result = ops.convert_to_numpy(model(inputs))
    assert not result[1].any() and result[0].any()
    assert all(np.isfinite(gradient).all() for gradient in gradients_of(model, inputs))


@pytest.fixture()
def gradients_of():
    """One step of training, as the changes of the weights."""
    def change(model, inputs):
        before = [ops.convert_to_numpy(weight) for weight in model.trainable_variables]
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
        model.train_on_batch(inputs, np.ones((B, E), "float32"))
        return [ops.convert_to_numpy(weight) - old for weight, old in
                zip(model.trainable_variables, before, strict=True)]

    return change


@pytest.mark.parametrize("options, error, words", [
    ({"pooling": "max"}, ValueError, "Unknown pooling 'max'"),
    ({"pooling": "pooler", "use_pooler": False}, ValueError, "`pooling`='pooler' needs a backbone with `use_pooler`"),
    ({"normalize": 1}, TypeError, "`normalize` must be True or False. Received: 1"),
])
def test_settings_that_do_not_fit_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        make("feature-extraction", **options)


def test_settings_are_saved(tmp_path):
    model = make("feature-extraction", pooling="cls", normalize=True)
    kzoo.save(model, tmp_path / "run")
    again = kzoo.load(tmp_path / "run")
    assert (again.pooling, again.normalize) == ("cls", True)
    np.testing.assert_array_equal(again(TEXTS[0]), model(TEXTS[0]))
    other = kzoo.load(tmp_path / "run", pooling="mean")
    assert (other.pooling, other.normalize) == ("mean", True) and other.newly_initialized == ()


def test_the_pooler_travels_along_frozen(tmp_path, recwarn):
    """A checkpoint stays whole, though the mean does without its pooler; from a file without one nobody is warned."""
    model = make("feature-extraction")
    assert not model.pooler.trainable_weights and make("feature-extraction", pooling="pooler").pooler.trainable_weights
    assert "pooler" not in {path.split("/")[0] for path in
                            variables_by_path(make("feature-extraction", use_pooler=False))}
    for format in ("kzoo", "hugging_face"):
        kzoo.save(model, tmp_path / format, format=format)
        again = kzoo.load(tmp_path / format)
        np.testing.assert_array_equal(weights(again.pooler)[0], weights(model.pooler)[0])
        classifier = kzoo.load(tmp_path / format, task="text-classification", labels=("a", "b"))
        assert classifier.newly_initialized == ("classifier/bias", "classifier/kernel")
        np.testing.assert_array_equal(weights(classifier.pooler)[0], weights(model.pooler)[0])
    kzoo.save(make("fill-mask"), tmp_path / "masked")
    recwarn.clear()
    assert kzoo.load(tmp_path / "masked", task="feature-extraction").newly_initialized == ()
    assert not [warning for warning in recwarn if "newly initialised" in str(warning.message)]
    with pytest.warns(UserWarning, match="holds no weights for pooler/bias, pooler/kernel"):
        kzoo.load(tmp_path / "masked", task="feature-extraction", pooling="pooler")


def test_the_tokenizer_may_come_later():
    model = make("feature-extraction", tokenizer=None)
    with pytest.raises(ValueError, match="Text needs a tokenizer, and this model has none"):
        model("the ships")
    model.tokenizer = TOKENIZER
    assert model("the ships").shape == (E,)

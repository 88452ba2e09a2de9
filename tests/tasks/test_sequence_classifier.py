"""The classifier's head, and the class of a text, through fit, predict and saving."""
import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from tests.tasks.encoders import INPUTS, PADDING_MASK, TOKENIZER, B, hidden_states, make, outputs_for, softmax, weights

LABELS = ("bad", "good", "ugly")
TEXTS = ["the ships pass", "a keeper", "the light of the lighthouse keeps the ships"]


@pytest.fixture(scope="module")
def model():
    return make("text-classification", labels=LABELS)


@pytest.mark.parametrize("activation, function", [("tanh", np.tanh), ("relu", lambda x: np.maximum(x, 0))])
def test_agrees_with_the_formula(activation, function):
    """The first real token counts, wherever padding stands."""
    model = make("text-classification", labels=LABELS, classifier_activation=activation)
    kernel, bias = weights(model.pooler)
    last_kernel, last_bias = weights(model.classifier)
    first = np.array([row[mask][0] for row, mask in zip(hidden_states(model), PADDING_MASK, strict=True)])
    expected = function(first @ kernel + bias) @ last_kernel + last_bias
    result = ops.convert_to_numpy(model(INPUTS))
    assert result.shape == (B, 3)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    of_column_0 = function(hidden_states(model)[:, 0] @ kernel + bias) @ last_kernel + last_bias
    assert np.abs(result - of_column_0).max() > 1e-3


def test_texts_have_classes(model):
    answers = model(TEXTS)
    for text, answer in zip(TEXTS, answers, strict=True):
        scores = softmax(outputs_for(model, text))
        np.testing.assert_allclose([answer["scores"][label] for label in LABELS], scores, rtol=1e-4)
        assert answer["label"] == LABELS[scores.argmax()]
        assert model(text)["label"] == answer["label"]


def test_answers_are_of_the_weights_of_now(model):
    """What was compiled for the first answer must not keep the first weights."""
    before = model.get_weights()
    first = model(TEXTS[0])
    model.classifier.bias.assign([0.0, 0.0, 9.0])
    assert model(TEXTS[0])["label"] == "ugly" and model(TEXTS[0])["score"] > first["score"]
    model.set_weights(before)
    assert model(TEXTS[0]) == first


def test_labels_are_needed():
    with pytest.raises(TypeError, match="`labels` must name the classes.*Received: None"):
        make("text-classification")
    with pytest.raises(ValueError, match="`labels` names 'a' more than once"):
        make("text-classification", labels=["a", "a"])


def test_long_texts_are_refused_or_cut(model):
    with pytest.raises(ValueError, match="Text 0 has 42 tokens, special ones included; the model reads 32"):
        model("ship " * 40)
    assert model("ship " * 40, truncate=True) == model("ship " * 30)


def test_it_is_an_ordinary_keras_model(tmp_path):
    """compile, fit with validation data and class weights, evaluate, predict, save; then text in, label out."""
    keras.utils.set_random_seed(0)
    model = make("text-classification", redrawn=False, labels=("ship", "light"), initializer_range=0.2)
    texts = ["the ship", "a ship passes", "ship and ship", "the light", "a light is on", "light and light"] * 4
    rows = TOKENIZER.encode_batch(texts)
    token_ids = np.array([row + [0] * (8 - len(row)) for row in rows], "int32")
    x = {"token_ids": token_ids, "padding_mask": token_ids != 0}
    y = np.array(["light" in text for text in texts]).astype("int32")
    model.compile(optimizer=keras.optimizers.Adam(0.01), metrics=["accuracy"],
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(x, y, batch_size=8, epochs=8, validation_data=(x, y), class_weight={0: 1.0, 1: 2.0},
                        verbose=0).history
    assert history["val_accuracy"][-1] == 1.0 and history["loss"][-1] < 0.5 * history["loss"][0]
    assert model.evaluate(x, y, verbose=0)[1] == 1.0
    assert (model.predict(x, verbose=0).argmax(axis=-1) == y).all()
    kzoo.save(model, tmp_path / "run")
    for each in (model, kzoo.load(tmp_path / "run")):
        assert [answer["label"] for answer in each(["the ship is old", "the light is old"])] == ["ship", "light"]


def test_a_model_with_text_is_still_a_part_of_other_models(model):
    inputs = {"token_ids": keras.Input((None,), dtype="int32", name="token_ids")}
    whole = keras.Model(inputs, keras.layers.Softmax()(model(inputs)))
    assert whole.output_shape == (None, 3)
    result = whole({"token_ids": INPUTS["token_ids"]})
    np.testing.assert_allclose(result, ops.softmax(model({"token_ids": INPUTS["token_ids"]})), atol=1e-6)
    with pytest.raises(TypeError, match="Model inputs are a dict with `token_ids`"):
        model(INPUTS["token_ids"])

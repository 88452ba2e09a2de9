"""Text generation with the real model: an ordinary Keras model that also generates."""
import json
import pathlib

import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.tokenizers import train_tokenizer

FIXTURE = pathlib.Path(__file__).parents[1] / "fixtures" / "generation"
V, C = 29, 37
rng = np.random.default_rng(0)


def make(**changes):
    model = kzoo.create("gpt2-nano", **{**dict(vocabulary_size=V, num_layers=2, num_heads=2, hidden_dim=12,
                                               max_sequence_length=C), **changes})
    return redraw(model)


def redraw(model, seed=0):
    draw = np.random.default_rng(seed)
    model.set_weights([draw.normal(0, 0.3, weight.shape) for weight in model.weights])
    return model


@pytest.fixture(scope="module")
def model():
    return make()


def greedy(model, prompt, steps):
    """The most probable token, step by step, with the whole row computed anew each time."""
    row = list(prompt)
    for _ in range(steps):
        padded = np.array([row + [0] * (C - len(row))], "int32")  # one shape; what follows is not seen
        row.append(int(ops.convert_to_numpy(model({"token_ids": padded}))[0, len(row) - 1].argmax()))
    return row


PROMPTS = [[7, 2, 11], [19], [28, 1, 1, 13, 6, 17, 8]]


def test_generation_is_the_plain_loop(model):
    expected = [greedy(model, prompt, 6) for prompt in PROMPTS]
    assert model.generate(PROMPTS, max_new_tokens=6) == expected
    assert [model.generate(prompt, max_new_tokens=6) for prompt in PROMPTS] == expected  # alone as in the batch
    assert len({tuple(row[-6:]) for row in expected}) > 1  # the prompt matters


def test_generation_uses_the_weights_of_now(model):
    """What was compiled for the first call must not keep the first weights."""
    before = model.get_weights()
    first = model.generate(PROMPTS[0], max_new_tokens=6)
    redraw(model, seed=1)
    second = model.generate(PROMPTS[0], max_new_tokens=6)
    assert second == greedy(model, PROMPTS[0], 6) and second != first
    model.set_weights(before)
    assert model.generate(PROMPTS[0], max_new_tokens=6) == first


def test_ids_equal_the_reference():
    """Greedy and beam search of fixtures/make_generation.py, through the real model."""
    model = kzoo.load(FIXTURE / "tiny_gpt2")
    expected = json.loads((FIXTURE / "expected.json").read_text())
    common = {name: expected[name] for name in ("pad_token_id", "eos_token_id", "max_new_tokens")}
    for case in expected["searches"]:
        options = {**common, **case["options"]}
        assert model.generate(expected["prompts"], **options) == case["ids"], case["options"]


def test_text_in_text_out():
    tokenizer = train_tokenizer("character", ["abcdefghij klmno"])
    model = make(vocabulary_size=tokenizer.vocabulary_size, tokenizer=tokenizer)
    pieces = []
    text = model.generate("bad cab", max_new_tokens=5, stream=pieces.append)
    ids = greedy(model, tokenizer.encode("bad cab"), 5)
    assert text == tokenizer.decode(ids) == "bad cab" + "".join(pieces)
    assert model.generate(["bad cab", "j"], max_new_tokens=5)[0] == text


def test_half_precision_generates():
    model = make(dtype="mixed_bfloat16")
    assert len(model.generate(PROMPTS[0], max_new_tokens=6)) == 9


def test_inputs_that_do_not_fit_are_refused(model):
    with pytest.raises(ValueError, match=f"below vocabulary_size={V}. Received: {V} in prompt 1"):
        model.generate([[1], [V]])
    with pytest.raises(ValueError, match=f"fit into max_sequence_length={C}"):
        model.generate([1] * (C + 1))
    with pytest.raises(ValueError, match="Text `inputs` need a tokenizer"):
        model.generate("text")
    with pytest.raises(TypeError, match="Model inputs are a dict with `token_ids`"):
        model(np.ones((2, 3), "int32"))


def test_the_context_is_the_end(model):
    with pytest.warns(UserWarning, match=f"max_sequence_length={C}"):
        row = model.generate([3] * (C - 3), max_new_tokens=9)
    assert row == greedy(model, [3] * (C - 3), 3)


class GenerateAfterEachEpoch(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.ids = []

    def on_epoch_end(self, epoch, logs=None):
        self.ids.append(self.model.generate([1, 2], max_new_tokens=4))


def test_it_is_an_ordinary_keras_model(tmp_path):
    """compile, fit with validation data and a callback that generates, evaluate, predict."""
    keras.utils.set_random_seed(0)
    model = kzoo.create("gpt2-nano", vocabulary_size=7, num_layers=1, num_heads=2, hidden_dim=16,
                        max_sequence_length=C)
    token_ids = (np.arange(9) + rng.integers(0, 7, (24, 1))).astype("int32") % 7  # counting upwards
    x, y = {"token_ids": token_ids[:, :-1]}, token_ids[:, 1:]
    model.compile(optimizer=keras.optimizers.Adam(0.03), metrics=["accuracy"],
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callback = GenerateAfterEachEpoch()
    history = model.fit(x, y, batch_size=8, epochs=6, validation_data=(x, y), callbacks=[callback], verbose=0).history
    assert history["val_loss"][-1] < 0.5 * history["loss"][0] and history["val_accuracy"][-1] > 0.9
    assert len(callback.ids) == 6 and callback.ids[-1] == [1, 2, 3, 4, 5, 6]
    loss, accuracy = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(history["val_loss"][-1], rel=1e-4) and accuracy > 0.9
    assert (model.predict(x, verbose=0).argmax(axis=-1) == y).mean() == pytest.approx(accuracy, abs=1e-6)
    model.save(tmp_path / "model.keras")  # with its optimizer
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.generate([1, 2], max_new_tokens=4) == [1, 2, 3, 4, 5, 6]


def test_no_warning_of_retracing(model, caplog):
    """Each shape is compiled once, on purpose; TensorFlow would warn of it from the fifth on."""
    with caplog.at_level("WARNING"):
        for length in (1, 17, 33):
            for batch in (1, 2, 3):
                model.generate([[1] * length] * batch, max_new_tokens=3)
    assert "retracing" not in caplog.text

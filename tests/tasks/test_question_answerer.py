"""The span head, and answers found in contexts of any length."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.tasks.windows import question_windows
from tests.tasks.encoders import INPUTS, TOKENIZER, B, T, hidden_states, make, weights

CONTEXT = "The lighthouse keeper counts the ships that pass before the evening comes."


@pytest.fixture(scope="module")
def model():
    return make("question-answering", max_sequence_length=64)


def test_agrees_with_the_formula(model):
    kernel, bias = weights(model.span_classifier)
    result = {name: ops.convert_to_numpy(each) for name, each in model(INPUTS).items()}
    assert {name: each.shape for name, each in result.items()} == {"start_logits": (B, T), "end_logits": (B, T)}
    expected = hidden_states(model) @ kernel + bias
    np.testing.assert_allclose(result["start_logits"], expected[..., 0], atol=1e-5)
    np.testing.assert_allclose(result["end_logits"], expected[..., 1], atol=1e-5)
    assert np.abs(result["start_logits"] - expected[..., 1]).max() > 0.01


def test_the_answer_is_the_best_span_of_the_context(model):
    """Question and context are told apart by their segments."""
    question, context = (TOKENIZER.encode(text, add_special_tokens=False) for text in ("Who counts?", CONTEXT))
    window, = question_windows(TOKENIZER, question, context, 64)
    result = model({"token_ids": np.array([window.token_ids], "int32"),
                    "segment_ids": np.array([window.segment_ids], "int32")})
    start, end = (ops.convert_to_numpy(result[name])[0, window.first:window.first + len(context)].astype("float64")
                  for name in ("start_logits", "end_logits"))
    sums = np.where(np.subtract.outer(np.arange(len(context)), np.arange(len(context))).T >= 0,
                    start[:, None] + end[None], -np.inf)
    sums[np.subtract.outer(np.arange(len(context)), np.arange(len(context))).T >= 5] = -np.inf
    first, last = np.unravel_index(sums.argmax(), sums.shape)
    answer = model(question="Who counts?", context=CONTEXT, max_answer_tokens=5)
    places = TOKENIZER.encode_with_offsets(CONTEXT).offsets
    assert (answer["start"], answer["end"]) == (places[first][0], places[last][1])
    assert answer["answer"] == CONTEXT[answer["start"]:answer["end"]]
    assert answer["score"] == pytest.approx(np.exp(sums[first, last]) / np.exp(sums).sum(), rel=1e-3)
    assert model({"question": "Who counts?", "context": CONTEXT}, max_answer_tokens=5) == answer
    assert len(model([{"question": "Who?", "context": CONTEXT}] * 2)) == 2


def test_a_model_that_learnt_to_answer_does():
    """The answer to "who?" is the keeper; in a context of many windows, too, wherever she stands."""
    keras.utils.set_random_seed(0)
    model = make("question-answering", redrawn=False, initializer_range=0.2, max_sequence_length=32)
    draw = np.random.default_rng(0)
    words, keeper = "abcdeghiklm", TOKENIZER.token_to_id("keeper")
    question = TOKENIZER.encode("who?", add_special_tokens=False)
    rows, places = [], []
    for _ in range(64):
        context = [TOKENIZER.token_to_id(words[index]) for index in draw.integers(0, len(words), 24)]
        place = draw.integers(0, 24)
        context[place] = keeper
        window, = question_windows(TOKENIZER, question, context, 32)
        rows.append(window)
        places.append(window.first + place)
    x = {"token_ids": np.array([row.token_ids for row in rows], "int32"),
         "segment_ids": np.array([row.segment_ids for row in rows], "int32")}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.02), loss={"start_logits": loss, "end_logits": loss})
    y = {"start_logits": np.array(places), "end_logits": np.array(places)}
    history = model.fit(x, y, batch_size=64, epochs=25, verbose=0).history
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    answer = model(question="who?", context="a b c d " * 10 + "keeper" + " e g h i" * 10)
    assert (answer["answer"], answer["start"]) == ("keeper", 80) and answer["score"] > 0.5

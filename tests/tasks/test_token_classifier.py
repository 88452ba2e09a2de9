"""The token classifier's head, and entities found in texts of any length."""
import numpy as np
import pytest
from keras import ops

from kzoo.tasks.windows import cut, owners
from tests.tasks.encoders import INPUTS, TOKENIZER, B, T, hidden_states, make, outputs_for, softmax, weights

LABELS = ("O", "B-SHIP", "I-SHIP", "B-HOUSE", "I-HOUSE")


@pytest.fixture(scope="module")
def model():
    return make("token-classification", labels=LABELS)


def test_agrees_with_the_formula(model):
    kernel, bias = weights(model.tag_classifier)
    result = ops.convert_to_numpy(model(INPUTS))
    assert result.shape == (B, T, 5)
    np.testing.assert_allclose(result, hidden_states(model) @ kernel + bias, atol=1e-5)
    assert np.abs(result - hidden_states(model) @ kernel).max() > 0.01


def test_words_have_the_labels_that_the_model_finds_likeliest(model):
    plain = make("token-classification", labels=("a", "b", "c", "d", "e"))
    text = "The keeper, she counts ships."
    scores = softmax(outputs_for(plain, text))[1:-1]  # without [CLS] and [SEP]
    pieces = [index for index, token in enumerate(TOKENIZER.encode(text, add_special_tokens=False))
              if not TOKENIZER.id_to_token(token).startswith("##")]
    answer = plain(text)
    assert [each["text"] for each in answer] == ["The", "keeper", ",", "she", "counts", "ships", "."]
    assert [each["label"] for each in answer] == [plain.labels[scores[piece].argmax()] for piece in pieces]
    np.testing.assert_allclose([each["score"] for each in answer], scores[pieces].max(axis=-1), rtol=1e-4)


def test_a_long_text_is_read_in_windows():
    """Each token has the label of the window that shows most around it."""
    model = make("token-classification", labels=("a", "b", "c"))
    text = " ".join("abcdeghik" * 9)
    ids = TOKENIZER.encode(text, add_special_tokens=False)
    windows = cut(len(ids), 30)
    assert len(windows) > 2
    parts = [softmax(outputs_for(model, text[2 * start:2 * stop]))[1:-1] for start, stop in windows]
    expected = [parts[owner][token - windows[owner][0]] for token, owner in enumerate(owners(windows, len(ids)))]
    answer = model(text)
    assert "".join(each["text"] for each in answer) == "abcdeghik" * 9
    np.testing.assert_allclose([each["score"] for each in answer], np.max(expected, axis=-1), rtol=1e-3)
    assert [each["label"] for each in answer] == ["abc"[index] for index in np.argmax(expected, axis=-1)]


def test_the_scheme_of_the_labels_makes_entities(model):
    """Where the offsets favour a label that begins an entity, each word is one."""
    model.tag_classifier.bias.assign([0.0, 0.0, 0.0, 9.0, 0.0])
    answer = model("ship keeper")
    assert [(each["label"], each["text"]) for each in answer] == [("HOUSE", "ship"), ("HOUSE", "keeper")]

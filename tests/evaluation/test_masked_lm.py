"""Evaluation of fill-mask: hidden tokens of whole windows, the same ones every time."""
import math

import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.evaluation import evaluate
from kzoo.export.keras_session import live_session
from kzoo.tokenizers import train_tokenizer
from kzoo.training.masking import Masking

TEXT = "to be or not to be, that is the question of the day\n" * 40
T = 14


@pytest.fixture(scope="module")
def model():
    tokenizer = train_tokenizer("wordpiece", [TEXT], 60)
    model = kzoo.create("bert-tiny", task="fill-mask", tokenizer=tokenizer, num_layers=1, num_heads=2, hidden_dim=8,
                        intermediate_dim=12, vocabulary_size=tokenizer.vocabulary_size, max_sequence_length=T)
    random = np.random.default_rng(2)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.5, variable.shape))
    return model


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.txt"
    path.write_text(TEXT)
    return path


def test_agrees_with_the_mean_written_out(model, data, monkeypatch):
    seen = []
    hide = Masking.hide

    def record(masking, token_ids, seed):
        hidden, chosen = hide(masking, token_ids, seed)
        seen.append((token_ids, hidden, chosen))
        return hidden, chosen

    monkeypatch.setattr(Masking, "hide", record)
    found = evaluate(model, data)
    (token_ids, hidden, chosen), = seen
    assert token_ids.shape[1] == T and (token_ids[:, 0] == model.tokenizer.cls_id).all()
    logits = ops.convert_to_numpy(model({"token_ids": hidden})).astype("float64")
    losses = np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(logits, token_ids[:, :, None], -1)[..., 0]
    assert found["hidden_tokens"] == chosen.sum() > 20
    assert found["loss"] == pytest.approx(losses[chosen].mean(), rel=1e-4)
    assert found["perplexity"] == pytest.approx(math.exp(losses[chosen].mean()), rel=1e-3)
    assert found["accuracy"] == pytest.approx((logits.argmax(-1) == token_ids)[chosen].mean())
    assert found["loss"] != pytest.approx(losses.mean(), rel=1e-3)


def test_the_same_tokens_are_hidden_every_time(model, data):
    assert evaluate(model, data) == evaluate(model, data)
    assert evaluate(model, data, whole_words=True)["loss"] != evaluate(model, data)["loss"]


def test_a_session_is_measured_as_its_model(model, data):
    expected = evaluate(model, data)
    assert evaluate(live_session(model), data) == pytest.approx(expected, rel=1e-5)
    other = kzoo.create("bert-tiny", task="fill-mask", tokenizer=model.tokenizer, **model.config.to_dict())
    assert evaluate(live_session(other), data) != pytest.approx(expected, rel=1e-2)


def test_a_short_text_is_one_window(model, tmp_path):
    (tmp_path / "short.txt").write_text("to be or not to be")
    assert evaluate(model, tmp_path / "short.txt")["hidden_tokens"] <= 5
    (tmp_path / "shorter.txt").write_text("to")
    with pytest.raises(ValueError, match="shorter.txt is too short: 1 tokens, 2 are needed"):
        evaluate(model, tmp_path / "shorter.txt")


def test_windows_must_fit_the_model(model, data):
    with pytest.raises(ValueError, match=r"`sequence_length` must be .* at most the model's .* \(14\)"):
        evaluate(model, data, sequence_length=T + 1)

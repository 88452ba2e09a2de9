"""Evaluation: every token once, whatever the batch; the same for a model, a session and a folder."""
import math
import types

import keras
import numpy as np
import pytest

import kzoo
from kzoo.evaluation import WindowScorer, evaluate, metrics
from kzoo.tokenizers import train_tokenizer

TEXT = "to be or not to be, that is the question\n" * 3
V, T = 23, 13


@pytest.fixture(scope="module")
def model():
    tokenizer = train_tokenizer("character", [TEXT])
    model = kzoo.create("gpt2-nano", tokenizer=tokenizer, num_layers=1, num_heads=2, hidden_dim=6, vocabulary_size=V,
                        max_sequence_length=T)
    random = np.random.default_rng(2)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.5, variable.shape))
    return model


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.txt"
    path.write_text(TEXT)
    return path


def written_out(model, ids, length):
    """Sum and number of the losses, one window at a time."""
    total, count = 0.0, 0
    for start in range(0, len(ids) - 1, length):
        window = np.array(ids[start:start + length + 1], "int32")
        logits = keras.ops.convert_to_numpy(model({"token_ids": window[None, :-1]}))[0].astype("float64")
        for row, target in zip(logits, window[1:], strict=True):
            total -= row[target] - np.log(np.exp(row).sum())
            count += 1
    return total, count


class Session:
    """The model as a session of a bundle is: numpy in, numpy out."""

    def __init__(self, model):
        self.task, self.tokenizer, self.model = model.task, model.tokenizer, model
        self.sizes = {"max_sequence_length": T, "vocabulary_size": V}
        self.shapes = set()

    def run(self, signature, inputs):
        assert signature == "forward" and inputs["padding_mask"].all()
        self.shapes.add(inputs["token_ids"].shape)
        return {"logits": keras.ops.convert_to_numpy(self.model(inputs))}


@pytest.mark.parametrize("length", [T, 5])
def test_agrees_with_the_sum_written_out(model, data, length):
    ids = model.tokenizer.encode(TEXT)
    nats, count = written_out(model, ids, length)
    found = evaluate(model, data, sequence_length=length)
    assert found["tokens"] == count == len(ids) - 1
    assert found["loss"] == pytest.approx(nats / count, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-5)
    assert found["characters"] == len(TEXT) - 1
    assert found["bits_per_character"] == pytest.approx(nats / math.log(2) / (len(TEXT) - 1), rel=1e-5)
    assert found["loss"] != pytest.approx(evaluate(model, data, sequence_length=length - 1)["loss"], rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_batch_does_not_matter_nor_does_the_kind(model, data, batch_size):
    expected = evaluate(model, data)
    assert evaluate(model, data, batch_size=batch_size) == pytest.approx(expected, rel=1e-5)
    session = Session(model)
    assert evaluate(session, data, batch_size=batch_size) == pytest.approx(expected, rel=1e-5)
    assert all(rows <= batch_size for rows, _ in session.shapes)


def test_a_folder_is_opened(model, data, tmp_path):
    kzoo.save(model, tmp_path / "run")
    assert evaluate(tmp_path / "run", data) == pytest.approx(evaluate(model, data), rel=1e-5)


def test_the_tail_is_the_end_of_the_text(model, data, tmp_path):
    (tmp_path / "end.txt").write_text(TEXT[int(len(TEXT) * 0.7):])
    expected = evaluate(model, tmp_path / "end.txt")
    assert evaluate(model, data, tail=0.3) == pytest.approx(expected, rel=1e-6)
    assert evaluate(model, data, tail=0.31) != pytest.approx(expected, rel=1e-6)


def test_a_part_of_the_windows_is_spread_over_the_text(model):
    ids = np.array(model.tokenizer.encode(TEXT), "uint16")
    scorer = WindowScorer(model)
    seen = []
    nats, count = scorer.score(ids, max_tokens=4 * T, report=seen.append)
    windows = -(-(len(ids) - 1) // T)
    expected = sum(written_out(model, ids[start:start + T + 1].tolist(), T)[0]
                   for start in (number * windows // 4 * T for number in range(4)))
    assert count == 4 * T == seen[-1]
    assert nats == pytest.approx(expected, rel=1e-5)
    assert scorer.score(ids, max_tokens=10_000) == scorer.score(ids)


def test_bits_per_character_count_the_characters_behind_the_tokens():
    tokenizer = types.SimpleNamespace(decode=lambda ids: {3: "the"}[ids[0]])
    found = metrics(nats=14.0, count=7, tokens=[3] * 8, characters=31, tokenizer=tokenizer)
    assert found["loss"] == 2 and found["characters"] == 28
    assert found["bits_per_character"] == pytest.approx(14 / math.log(2) / 28)
    assert metrics(7e5, 7, [3] * 8, 31, tokenizer)["perplexity"] == math.inf


def test_what_cannot_be_measured_is_refused(model, data, tmp_path):
    (tmp_path / "one.txt").write_text("t")
    bare = types.SimpleNamespace(tokenizer=None, task=model.task)
    other = types.SimpleNamespace(tokenizer=model.tokenizer, task="ranking")
    for arguments, options, words in (
            ((model, data), {"tail": 0}, "`tail` must be above 0"),
            ((model, data), {"sequence_length": T + 1}, r"at most the model's `max_sequence_length` \(13\)"),
            ((model, data), {"batch_size": 0}, "`batch_size` must be at least 1"),
            ((model, data), {"runtime": "onnx"}, "the model is open already"),
            ((tmp_path, data), {"runtime": "onnx"}, "holds no manifest.json"),
            ((model, tmp_path / "one.txt"), {}, "too short: 1 tokens, 2 are needed"),
            ((bare, data), {}, "has no tokenizer"),
            ((model, data), {"bpe_marks": True}, "Unknown option of the task 'text-generation' 'bpe_marks'"),
            ((other, data), {}, "Unknown task 'ranking'")):
        with pytest.raises(ValueError, match=words):
            evaluate(*arguments, **options)
    with pytest.raises(ValueError, match="The model's task is 'fill-mask'"):
        WindowScorer(types.SimpleNamespace(task="fill-mask"))
    with pytest.raises(FileNotFoundError, match="missing.txt does not exist"):
        evaluate(model, tmp_path / "missing.txt")

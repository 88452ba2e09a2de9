"""Evaluation with a memory: the text is read on, not in windows."""
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.evaluation import evaluate
from kzoo.evaluation.streams import StreamScorer, with_memory
from kzoo.tokenizers import train_tokenizer

TEXT = "to be or not to be, that is the question\n" * 3
V, T, M = 23, 5, 7


@pytest.fixture(scope="module")
def model():
    model = kzoo.create("transformer-xl-nano", tokenizer=train_tokenizer("character", [TEXT]), vocabulary_size=V,
                        num_layers=2, num_heads=2, head_dim=3, hidden_dim=6, intermediate_dim=7, memory_length=M,
                        max_sequence_length=T)
    random = np.random.default_rng(2)
    model.set_weights([random.normal(0, 0.5, weight.shape) for weight in model.weights])
    return model


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.txt"
    path.write_text(TEXT)
    return path


def written_out(model, ids):
    """The mean loss, with memories cut out of hidden states that are all kept."""
    cache, total = model.backbone.empty_cache(1), 0.0
    for start in range(0, len(ids) - 1, T):
        window = np.array(ids[start:start + T + 1], "int32")
        logits, cache = model.forward({"token_ids": window[None, :-1]}, cache)
        logits = ops.convert_to_numpy(logits)[0].astype("float64")
        total -= sum(row[target] - np.log(np.exp(row).sum()) for row, target in zip(logits, window[1:], strict=True))
    return total / (len(ids) - 1)


def test_agrees_with_the_sum_written_out(model, data):
    ids = model.tokenizer.encode(TEXT)
    found = evaluate(model, data, batch_size=1)
    assert found["tokens"] == len(ids) - 1 and found["loss"] == pytest.approx(written_out(model, ids), rel=1e-5)
    assert StreamScorer(model)._streams(len(ids) - 1) == 1  # too short for more of them
    assert evaluate(model, data, batch_size=4)["loss"] != pytest.approx(found["loss"], rel=1e-5)


def test_with_a_longer_memory_the_cut_no_longer_matters(model, data):
    long = {"batch_size": 1, "memory_length": len(TEXT)}
    found, ids = evaluate(model, data, sequence_length=31, **long)["loss"], model.tokenizer.encode(TEXT)
    assert found == pytest.approx(written_out(with_memory(model, len(TEXT)), ids), rel=1e-5)
    assert found != pytest.approx(written_out(model, ids), rel=1e-5)
    assert model.config.memory_length == M


def test_a_part_is_the_beginning_of_every_stream(model):
    ids = np.array(model.tokenizer.encode(TEXT), "uint16")
    scorer, seen = StreamScorer(model, batch_size=3), []
    assert scorer.score(ids, max_tokens=4 * T * 3, report=seen.append)[1] == 4 * T * 3 == seen[-1]
    assert scorer.score(ids, max_tokens=10_000) == scorer.score(ids)


def test_what_cannot_be_measured_is_refused(model, data):
    other = kzoo.create("gpt2-nano", tokenizer=model.tokenizer, num_layers=1, num_heads=1, hidden_dim=2,
                        vocabulary_size=V)
    for subject, options, words in (
            (model, {"batch_size": 0}, "`batch_size` must be at least 1. Received: 0"),
            (model, {"sequence_length": 0}, "`sequence_length` must be at least 1"),
            (model, {"memory_length": 0}, "`memory_length` of TransformerXLConfig must be at least 1"),
            (other, {"memory_length": 9}, "`memory_length` is for a live model with a memory")):
        with pytest.raises(ValueError, match=words):
            evaluate(subject, data, **options)

"""A signature's computation is the model's forward pass in the signature's names and layouts."""
import numpy as np
import pytest

from kzoo.export.signatures import signatures, sizes_of
from kzoo.export.trace import run_signature

B, T, PAST = 2, 5, 3


@pytest.fixture(scope="module")
def ids(model):
    return np.random.default_rng(5).integers(0, model.config.vocabulary_size, (B, PAST + T)).astype("int32")


def table(model, runtime):
    return signatures(model.task, runtime, sizes_of(model))


def caches(outputs):
    return {name: np.asarray(value) for name, value in outputs.items() if name.startswith("cache_")}


def test_a_growing_cache_continues_what_was_read(model, ids):
    full = np.asarray(model({"token_ids": ids}))
    rows = table(model, "savedmodel")
    mask = np.ones((B, PAST + T), bool)
    first = run_signature(model, rows["prefill"], {"token_ids": ids[:, :PAST], "padding_mask": mask[:, :PAST]})
    assert np.asarray(first["cache_keys_1"]).shape == (B, PAST, 3, 5)
    then = run_signature(model, rows["decode"], {"token_ids": ids[:, PAST:], "padding_mask": mask, **caches(first)})
    np.testing.assert_allclose(then["logits"], full[:, PAST:], atol=1e-5 * np.ptp(full))
    swapped = {**caches(first), "cache_keys_0": caches(first)["cache_keys_1"]}
    wrong = run_signature(model, rows["decode"], {"token_ids": ids[:, PAST:], "padding_mask": mask, **swapped})
    assert np.abs(np.asarray(wrong["logits"]) - full[:, PAST:]).max() > 1e-3 * np.ptp(full)


def test_heads_come_first_where_the_signature_says_so(model, ids):
    rows = table(model, "onnx")["decode"]
    empty = {row.name: np.zeros((B, 3, 0, 5), "float32") for row in rows.inputs if row.name.startswith("cache_")}
    outputs = run_signature(model, rows, {"token_ids": ids, "padding_mask": np.ones(ids.shape, "int64"),
                                          "positions": np.tile(np.arange(PAST + T), (B, 1)), **empty})
    assert np.asarray(outputs["cache_values_0"]).shape == (B, 3, PAST + T, 5)
    full = np.asarray(model({"token_ids": ids}))
    np.testing.assert_allclose(outputs["logits"], full, atol=1e-5 * np.ptp(full))


def test_a_static_cache_starts_at_the_first_position(model, ids):
    rows = table(model, "tflite")
    full = np.asarray(model({"token_ids": ids[:1]}))
    cache = {row.name: np.zeros(row.shape, "float32") for row in rows["decode"].inputs if row.name.startswith("cache_")}
    padded = np.zeros((1, 8), "int32")
    padded[0, :7] = ids[0, :7]  # one token of padding, whose slot the next call overwrites
    outputs = run_signature(model, rows["prefill_8"], {"token_ids": padded, "positions": np.arange(8, dtype="int32"),
                                                       **cache})
    assert "logits" not in outputs
    outputs = run_signature(model, rows["decode"], {"token_ids": ids[:1, 7:], "positions": np.array([7], "int32"),
                                                    **caches(outputs)})
    np.testing.assert_allclose(np.asarray(outputs["logits"])[0, 0], full[0, 7], atol=1e-5 * np.ptp(full))

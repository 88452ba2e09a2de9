"""The LiteRT interpreter below the session."""
import numpy as np
import pytest

from kzoo.export import open_bundle


@pytest.fixture(scope="module")
def session(exported):
    return open_bundle(exported[0], "tflite", threads=1)


@pytest.mark.parametrize("length", [1, 2, 8, 9, 10, 16, 17, 33, 42, 53])
def test_every_prompt_length_agrees_with_token_by_token(session, length):
    ids = np.random.default_rng(length).integers(0, 311, (1, length)).astype("int32")
    expected = session.run("forward", {"token_ids": ids})["logits"][:, -1]
    logits, _ = session.prefill(ids, np.ones(ids.shape, bool), 1)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    ids[0, 0] = (ids[0, 0] + 1) % 311
    assert np.abs(session.prefill(ids, np.ones(ids.shape, bool), 1)[0] - expected).max() > 1e-4


@pytest.mark.parametrize(("length", "expected"), [
    (1, []), (2, [8]), (9, [8]), (10, [8, 8]), (16, [8, 8]), (17, [32]), (33, [32]), (53, [32, 32])])
def test_a_prompt_takes_the_largest_buckets_that_it_fills_by_half(session, monkeypatch, length, expected):
    calls, call = [], session._call
    monkeypatch.setattr(session, "_call", lambda name, feeds: calls.append(name) or call(name, feeds))
    ids = np.arange(length)[None]
    session.prefill(ids, np.ones(ids.shape, bool), 1)
    assert calls == [*(f"prefill_{size}" for size in expected), "decode"]


def test_buckets_by_our_names(session):
    ids = np.arange(8, dtype="int32")
    cache = {name: np.zeros((1, 53, 3, 5), "float32") for name in
             (row.name for row in session.signatures["decode"].inputs) if name.startswith("cache_")}
    after = session.run("prefill_8", {"token_ids": ids[None], "positions": ids, **cache})
    assert set(after) == set(cache)
    last = session.run("decode", {"token_ids": [[8]], "positions": [8], **after})["logits"]
    whole = session.run("forward", {"token_ids": np.arange(9)[None]})["logits"]
    np.testing.assert_allclose(last[:, 0], whole[:, -1], atol=1e-5)


def test_a_row_of_padding_alone_stays_finite(session):
    mask = np.array([[True, True], [False, False]])
    assert np.isfinite(session.run("forward", {"token_ids": [[1, 2], [0, 0]], "padding_mask": mask})["logits"]).all()


def test_only_builtin_operators(exported):
    content = (exported[0] / "tflite/model.tflite").read_bytes()
    assert b"Flex" not in content

"""TensorFlow below the session."""
import numpy as np
import pytest

from kzoo.export import open_bundle

IDS = np.array([[5, 3, 2, 7, 11], [1, 1, 2, 3, 5]], "int32")


@pytest.fixture(scope="module")
def session(exported):
    return open_bundle(exported[0], "savedmodel")


def test_prefill_and_decode_equal_forward(session):
    mask = np.array([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]], bool)
    whole = session.run("forward", {"token_ids": IDS, "padding_mask": mask})["logits"]
    first = session.run("prefill", {"token_ids": IDS[:, :3], "padding_mask": mask[:, :3]})
    assert first["cache_keys_1"].shape == (2, 3, 3, 5)  # (B, S, K, D)
    cache = {name: value for name, value in first.items() if name != "logits"}
    second = session.run("decode", {"token_ids": IDS[:, 3:], "padding_mask": mask, **cache})
    np.testing.assert_allclose(second["logits"], whole[:, 3:], atol=1e-5)
    seen = session.run("decode", {"token_ids": IDS[:, 3:], "padding_mask": np.ones((2, 5), bool), **cache})["logits"]
    assert np.abs(seen - whole[:, 3:])[1].max() > 1e-3  # the padding that is now seen


def test_what_the_file_says(session):
    assert set(session.described()) == {"forward", "prefill", "decode"}
    assert session.described()["forward"]["inputs"]["token_ids"] == ((None, None), "int32")

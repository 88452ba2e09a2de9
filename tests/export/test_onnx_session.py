"""ONNX Runtime below the session."""
import numpy as np
import pytest

from kzoo.export import open_bundle

IDS = np.array([[5, 3, 2, 7, 11]], "int32")


@pytest.fixture(scope="module")
def session(exported):
    return open_bundle(exported[0], "onnx", threads=1)


def test_prefill_and_decode_by_our_names_equal_forward(session):
    whole = session.run("forward", {"token_ids": IDS})["logits"]
    first = session.run("prefill", {"token_ids": IDS[:, :3]})
    assert first["cache_keys_1"].shape == (1, 3, 3, 5)  # (B, K, S, D), as the file has it
    cache = {name: value for name, value in first.items() if name != "logits"}
    second = session.run("decode", {"token_ids": IDS[:, 3:], **cache})
    np.testing.assert_allclose(second["logits"], whole[:, 3:], atol=1e-5)
    wrong = session.run("decode", {"token_ids": IDS[:, 3:], **{name: value[:, ::-1] for name, value in cache.items()}})
    assert np.abs(wrong["logits"] - whole[:, 3:]).max() > 1e-2


def test_a_state_is_a_value(session):
    _, state = session.prefill(IDS, np.ones(IDS.shape, bool), 3)
    once, _ = session.decode(np.array([1]), state)
    again, _ = session.decode(np.array([1]), state)
    np.testing.assert_array_equal(once, again)


def test_more_tokens_than_announced(session):
    """What was made for `max_new_tokens` grows, also after rows were chosen and with padding on the left."""
    ids, mask = np.array([[0, 3, 7], [5, 3, 7]]), np.array([[False, True, True], [True, True, True]])
    found = []
    for room in (0, 9):
        logits, state = session.prefill(ids, mask, room)
        for rows, tokens in (([0, 1], [4, 2]), ([1, 1, 0], [9, 2, 6]), ([0, 1, 2], [1, 1, 1]), ([2], [8])):
            logits, state = session.decode(np.array(tokens), session.reorder(state, np.array(rows)))
        found.append(logits)
    np.testing.assert_array_equal(*found)
    whole = session.run("forward", {"token_ids": np.array([[3, 7, 4, 6, 1, 8]])})["logits"][:, -1]
    np.testing.assert_allclose(found[0], whole, rtol=1e-4, atol=1e-5)


def test_rows_in_their_own_order_are_not_copied(session):
    _, state = session.prefill(np.repeat(IDS, 2, axis=0), np.ones((2, 5), bool), 3)
    assert session.reorder(state, np.array([0, 1])) is state
    assert session.reorder(state, np.array([1, 0])) is not state


def test_what_the_file_says(session):
    inputs = session.described()["decode"]["inputs"]
    assert inputs["input_ids"] == (("batch_size", "sequence_length"), "int64")
    assert inputs["past_key_values.1.value"] == (("batch_size", 3, "past_sequence_length", 5), "float32")


def test_an_option_it_has_not_is_refused(exported):
    with pytest.raises(TypeError, match="thread_count"):
        open_bundle(exported[0], "onnx", thread_count=2)
    with pytest.raises(ValueError, match="threads"):
        open_bundle(exported[0], "onnx", threads=0)

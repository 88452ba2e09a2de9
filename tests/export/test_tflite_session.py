"""LiteRT below the session."""
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from kzoo.export import open_bundle

XNNPACK = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"


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
    monkeypatch.setattr(session, "_call", lambda name, *inputs: calls.append(name) or call(name, *inputs))
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


def test_a_state_stays_what_it_is_while_others_go_on(session):
    """Buffers are used again as soon as nobody holds them, and no sooner."""
    ids = np.array([[5, 3, 7]], "int32")
    _, state = session.prefill(ids, np.ones(ids.shape, bool), 9)
    first, after = session.decode([4], state)
    for token in (9, 2, 6):
        _, other = session.decode([token], state)
        session.decode([token], other)
    np.testing.assert_array_equal(session.decode([4], state)[0], first)
    assert np.abs(session.decode([9], state)[0] - first).max() > 1e-4
    assert session.decode([8], after)[0].shape == (1, 311)


def test_a_long_text_takes_no_more_buffers_than_a_short_one(exported):
    session = open_bundle(exported[0], "tflite", threads=1)

    def buffers(new_tokens):
        session.generate([1, 2, 3], max_new_tokens=new_tokens)
        return [len(kind) for kind in (*session._file._sets.values(), *session._file._arrays.values())]

    short = buffers(4)
    assert short == buffers(40) == [2, 2]  # of the step before and the next: caches, logits


def test_it_is_silent(exported):
    """The runtime below would list every processor that it looks for."""
    code = ("import sys; from kzoo.export import open_bundle; "
            "print(open_bundle(sys.argv[1], 'tflite').generate([1, 2], max_new_tokens=3))")
    done, broken = (subprocess.run(
        [sys.executable, "-c", code + end, str(exported[0])], capture_output=True, text=True, timeout=120, check=False,
        cwd=pathlib.Path(__file__).parents[2]) for end in ("", "; raise SystemError('seen')"))
    assert done.returncode == 0 and done.stdout.startswith("[1, 2, ") and done.stderr.replace(XNNPACK, "") == ""
    assert broken.returncode == 1 and "SystemError: seen" in broken.stderr

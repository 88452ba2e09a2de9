"""The recorded answers: what is asked, and how it is kept."""
import zipfile

import numpy as np
import pytest

from kzoo.export.golden import GREEDY_STEPS, load_golden, padded_batch, record_golden, save_golden
from kzoo.export.keras_session import KerasGeneration


@pytest.fixture(scope="module")
def golden(model):
    return record_golden(KerasGeneration(model))


def test_batches_lengths_paddings_and_pasts_vary(golden):
    shapes = [case.inputs["token_ids"].shape for case in golden.cases]
    assert len({batch for batch, _ in shapes}) >= 3 and len({length for _, length in shapes}) >= 4
    masks = [case.inputs["padding_mask"] for case in golden.cases]
    assert any(not mask[:, 0].all() for mask in masks) and any(not mask[:, -1].all() for mask in masks)
    greedy, end = golden.continuations
    assert greedy.tokens.shape == (3, GREEDY_STEPS)
    assert end.inputs["token_ids"].shape[1] + end.tokens.shape[1] - 1 == 53  # the last token that fits is fed


def test_greedy_tokens_are_those_of_generate(golden, model):
    greedy = golden.continuations[0]
    for row in range(3):
        prompt = greedy.inputs["token_ids"][row][greedy.inputs["padding_mask"][row]].tolist()
        expected = prompt + greedy.tokens[row].tolist()
        assert model.generate(prompt, max_new_tokens=GREEDY_STEPS, eos_token_id=()) == expected
    assert (greedy.gaps >= 0).all()
    np.testing.assert_array_equal(greedy.top_ids[..., 0], greedy.tokens)


def test_it_comes_back_from_the_disk(golden, tmp_path):
    save_golden(tmp_path / "a.npz", golden)
    read = load_golden(tmp_path / "a.npz")
    assert [case.name for case in read.cases] == [case.name for case in golden.cases]
    for mine, theirs in zip(golden.cases, read.cases, strict=True):
        np.testing.assert_array_equal(mine.outputs["logits"], theirs.outputs["logits"])
    np.testing.assert_array_equal(golden.continuations[1].top_logits, read.continuations[1].top_logits)


def test_padding():
    batch = padded_batch(np.random.default_rng(0), 7, [3, 1], "left")
    np.testing.assert_array_equal(batch["padding_mask"], [[1, 1, 1], [0, 0, 1]])
    assert (batch["token_ids"][~batch["padding_mask"]] == 0).all()
    np.testing.assert_array_equal(padded_batch(np.random.default_rng(0), 7, [3, 1], "right")["padding_mask"],
                                  [[1, 1, 1], [1, 0, 0]])


def test_a_damaged_file_is_refused_by_name(tmp_path):
    np.savez(tmp_path / "pickled.npz", **{"case/0/name": np.array([{}], dtype=object)})
    np.savez(tmp_path / "other.npz", thing=np.zeros(3))
    (tmp_path / "short.npz").write_bytes(b"PK\x03\x04")
    for name in ("pickled", "other", "short"):
        with pytest.raises(ValueError, match=f"{name}.npz is not a sound set"):
            load_golden(tmp_path / f"{name}.npz")


def test_a_file_that_unpacks_to_gigabytes_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        archive.writestr("case/0/name.npy", b"0" * 1001)
    monkeypatch.setattr("kzoo.export.golden.MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="unpack to more"):
        load_golden(tmp_path / "bomb.npz")

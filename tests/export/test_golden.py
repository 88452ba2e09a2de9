"""The recorded answers: what is asked, and how it is kept."""
import dataclasses
import zipfile

import numpy as np
import pytest

from kzoo.export.golden import GREEDY_STEPS, check_golden, load_golden, padded_batch, record_golden, save_golden
from kzoo.export.keras_session import KerasGeneration
from kzoo.export.signatures import sizes_of


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


def test_a_header_that_states_more_than_there_is_is_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("case/0/name.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
        file.write(b"few")
    with pytest.raises(ValueError, match=r"a.npz is not .*case/0/name.npy states \(1000000000000,\) of float32"):
        load_golden(tmp_path / "a.npz")


def test_every_kind_of_damage_is_a_sentence(golden, tmp_path):
    save_golden(tmp_path / "a.npz", golden)
    content, random = (tmp_path / "a.npz").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        changed = bytearray(content)
        for place in random.integers(0, len(content), 30):
            changed[place] = int(random.integers(256))
        (tmp_path / "a.npz").write_bytes(changed)
        try:
            load_golden(tmp_path / "a.npz")
        except ValueError as error:
            assert "a.npz is not a sound set" in str(error)
            refused += 1
    assert refused > 50


def without(name):
    return lambda case: {**case, "inputs": {key: value for key, value in case["inputs"].items() if key != name}}


def with_input(name, change):
    return lambda case: {**case, "inputs": {**case["inputs"], name: change(case["inputs"][name])}}


def with_logits(change):
    return lambda case: {**case, "outputs": {"logits": change(case["outputs"]["logits"])}}


@pytest.mark.parametrize(("kind", "change", "message"), [
    ("cases", without("padding_mask"), "lacks the input `padding_mask`"),
    ("cases", without("token_ids"), "lacks the input `token_ids`"),
    ("cases", with_input("token_ids", lambda ids: ids + 311), "`token_ids` must be from 0 to 310"),
    ("cases", with_input("token_ids", lambda ids: ids.astype("int64")), "`token_ids` must be int32, found int64"),
    ("cases", with_input("padding_mask", lambda mask: mask.astype("int32")), "`padding_mask` must be bool, found int"),
    ("cases", with_logits(lambda logits: logits[..., :-1]), "`logits` must have the shape"),
    ("cases", with_logits(lambda logits: logits[:, :-1]), "`logits` (must have the shape|is empty)"),
    ("cases", with_logits(lambda logits: logits * np.nan), "`logits` holds values that are not finite"),
    ("cases", lambda case: {**case, "outputs": {}}, "lacks the input `logits`"),
    ("cases", lambda case: {**case, "per_token": ("labels",)}, "`per_token` must be some of"),
    ("continuations", without("token_ids"), "lacks the input `token_ids`"),
    ("continuations", lambda each: {**each, "tokens": each["tokens"] - 400}, "`next_token_ids` must be from 0 to 310"),
    ("continuations", lambda each: {**each, "top_ids": each["top_ids"][:, :-1]}, "`top_token_ids` must have the shape"),
    ("continuations", lambda each: {**each, "spread": np.float32(np.inf)}, "`spread` holds values that are not finite"),
    ("continuations", lambda each: {**each, "spread": np.ones(3, "float32")}, "`spread` must have the shape"),
])
def test_answers_that_no_such_model_gives_are_refused(golden, model, kind, change, message):
    sizes = sizes_of(model)
    check_golden(golden, model.task, sizes, "a.npz")
    first, *rest = getattr(golden, kind)
    changed = dataclasses.replace(golden, **{kind: (type(first)(**change(vars(first))), *rest)})
    with pytest.raises(ValueError, match=f"a.npz is not a sound set of verification arrays .*{message}"):
        check_golden(changed, model.task, sizes, "a.npz")


def test_no_answers_at_all_are_refused(golden, model):
    with pytest.raises(ValueError, match="it holds no case"):
        check_golden(type(golden)((), ()), model.task, sizes_of(model), "a.npz")

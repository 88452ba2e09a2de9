"""The gate: right sessions pass, each kind of damage is caught. First on the live model, then on real files."""
import shutil
import sys

import numpy as np
import onnx
import pytest

from kzoo.cli import main
from kzoo.export import compare, open_bundle, read_bundle, verify
from kzoo.export.golden import record_golden, save_golden
from kzoo.export.keras_session import KerasGeneration
from kzoo.export.verify import Report, check_bundle_files


@pytest.fixture(scope="module")
def golden(model):
    return record_golden(KerasGeneration(model))


class Damaged(KerasGeneration):
    """The live model with one thing wrong."""

    def __init__(self, model, fault):
        super().__init__(model)
        self.fault = fault

    def _forward(self, arrays):
        logits = super()._forward(arrays)["logits"]
        if self.fault == "logits":
            logits[0, -1, 3] += 1e-3 * np.ptp(logits)
        if self.fault == "nan":
            logits[0, 0, 3] = np.nan
        if self.fault == "padding":  # what hides padding is lost
            logits = super()._forward({"token_ids": arrays["token_ids"]})["logits"]
        if self.fault == "shape":
            logits = logits[..., :-1]
        return {"logit" if self.fault == "name" else "logits": logits}

    def decode(self, token_ids, state):
        if self.fault == "cache":
            token_ids = np.roll(token_ids, 1) if len(token_ids) > 1 else (token_ids + 1) % self.vocabulary_size
        if self.fault == "crash":
            raise RuntimeError("the runtime gave up\nat line 7")
        return super().decode(token_ids, state)

    def reorder(self, state, rows):
        return super().reorder(state, rows[::-1] if self.fault == "rows" else rows)


@pytest.fixture
def here(run_here, monkeypatch):
    """`verify` without processes of its own, each of which costs seconds to start."""
    monkeypatch.setattr(sys.modules["kzoo.export.verify"], "run_worker", run_here)


def failures(golden, session):
    return [row["check"] for row in compare(golden, session) if not row["passed"]]


def test_the_model_agrees_with_itself(golden, model):
    rows = compare(golden, KerasGeneration(model))
    assert [row for row in rows if not row["passed"]] == []
    assert len(rows) > 8 and rows[-1]["note"]


@pytest.mark.parametrize(("fault", "caught"), [
    ("logits", "logits: batch 1"), ("nan", "logits: batch 1"), ("padding", "padded left"), ("shape", "logits: batch 1"),
    ("name", "logits: batch 1"), ("cache", "cached = uncached"), ("crash", "cached = uncached"),
    ("rows", "rows selected")])
def test_a_fault_is_caught(golden, model, fault, caught):
    found = failures(golden, Damaged(model, fault))
    assert any(caught in check for check in found), found


def test_a_crash_is_a_row_with_its_first_line(golden, model):
    notes = [row["note"] for row in compare(golden, Damaged(model, "crash"))]
    assert "RuntimeError: the runtime gave up" in notes


def test_a_close_call_is_not_compared_and_said_so(golden, model):
    first = golden.continuations[0]
    gaps = first.gaps.copy()
    gaps[0, 0] = 1e-9
    tokens = first.tokens.copy()
    tokens[0, 0] = first.top_ids[0, 0, 1]  # the reference took the other of two that were equal
    tie = type(first)(**{**vars(first), "gaps": gaps, "tokens": tokens})
    changed = type(golden)((), (tie,))

    class OneStep(KerasGeneration):
        def decode(self, token_ids, state):  # so that the fed token, which differs here, plays no part
            return super().decode(first.tokens[:, self.step()], state)

        def step(self):
            self.count = getattr(self, "count", -1) + 1
            return self.count

    row = compare(changed, OneStep(model))[-1]
    assert row["passed"] and "of 96 near ties" in row["note"]
    wrong = type(golden)((), (type(first)(**{**vars(tie), "gaps": first.gaps}),))
    assert failures(wrong, OneStep(model)) == [first.name]  # without the tie the same difference fails


def test_a_report_passes_only_if_something_ran():
    def row(passed):
        return {"artifact": "onnx", "check": "x", "value": None, "limit": None, "passed": passed, "note": ""}
    assert Report([row(True), row(None)]).passed
    assert not Report([row(True), row(False)]).passed
    assert not Report([row(None)]).passed and not Report([]).passed
    assert Report([row(True), row(False)]).failures() == [row(False)]


# Real files. `reseal` makes the manifest agree with them, so that only what they compute can give them away.

def edit_onnx(edit):
    def change(folder):
        path = folder / "onnx/model.onnx"
        model = onnx.load(path)
        edit(model.graph)
        onnx.save(model, path)
    return change


@edit_onnx
def damage_weight(graph):
    tensor = max(graph.initializer, key=lambda each: len(each.raw_data))
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.flat[::7] += 0.1
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


@edit_onnx
def damage_name(graph):
    graph.input[2].name = "positions"
    for node in graph.node:
        node.input[:] = ["positions" if name == "position_ids" else name for name in node.input]


def _rename_output(graph, old, new):
    for node in graph.node:
        node.output[:] = [new if name == old else name for name in node.output]
        node.input[:] = [new if name == old else name for name in node.input]


@edit_onnx
def damage_cache_order(graph):
    _rename_output(graph, "present.0.key", "swap")
    _rename_output(graph, "present.0.value", "present.0.key")
    _rename_output(graph, "swap", "present.0.value")


@edit_onnx
def damage_dtype(graph):
    _rename_output(graph, "logits", "logits_32")
    graph.node.append(onnx.helper.make_node("Cast", ["logits_32"], ["logits"], to=onnx.TensorProto.DOUBLE))
    graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


def damage_tflite_weight(folder):
    path = folder / "tflite/model.tflite"
    content = bytearray(path.read_bytes())
    weights = np.frombuffer(content[:len(content) // 4 * 4], "<f4").copy()
    # Weights are the long stretches of ordinary numbers; change those in the middle of the longest one.
    ordinary = (np.abs(weights) > 1e-3) & (np.abs(weights) < 3)
    runs = np.flatnonzero(np.convolve(ordinary, np.ones(1000), "valid") > 990)
    place = int(runs[len(runs) // 2])
    weights[place:place + 500] += 0.1
    path.write_bytes(weights.tobytes() + bytes(content[len(content) // 4 * 4:]))


def cut_short(folder):
    path = folder / "tflite/model.tflite"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(("damage", "runtime", "caught"), [
    (damage_weight, "onnx", "logits: batch 1, length 1"),
    (damage_name, "onnx", "names, shapes, dtypes"),
    (damage_cache_order, "onnx", "cached = uncached"),
    (damage_dtype, "onnx", "names, shapes, dtypes"),
    (damage_tflite_weight, "tflite", "logits: batch 1, length 7"),
    (cut_short, "tflite", "opens"),
])
def test_damage_is_caught(here, bundle, reseal, damage, runtime, caught):
    damage(bundle)
    report = verify(bundle, runtimes=[runtime])
    assert [row["check"] for row in report.failures()] == ["files"]  # the hash gives it away, and it is not opened
    reseal(bundle)
    report = verify(bundle, runtimes=[runtime])
    assert not report.passed
    assert any(caught in row["check"] for row in report.failures()), report.failures()
    assert report.rows[0]["check"] == "files" and report.rows[0]["passed"]


def test_resealing_alone_changes_nothing(here, bundle, reseal):
    reseal(bundle)
    report = verify(bundle, runtimes=["onnx", "tflite"])
    assert report.passed, report.failures()
    assert {row["artifact"] for row in report.rows} == {"bundle", "onnx", "tflite"}


def test_another_model_is_not_what_the_bundle_holds(here, exported, model):
    from kzoo.saving import load

    other = load(exported[0] / "keras")
    assert verify(exported[0], model=other, runtimes=["onnx"]).passed
    other.trainable_weights[0].assign(other.trainable_weights[0] * 1.01)
    assert not verify(exported[0], model=other, runtimes=["onnx"]).passed


def test_unknown_names_are_refused(exported):
    with pytest.raises(ValueError, match="Did you mean 'tflite'"):
        verify(exported[0], runtimes=["tflit"])
    with pytest.raises(ValueError, match="Unknown variant"):
        verify(exported[0], variants=["int9"])


def test_damaged_answers_are_refused(bundle):
    (bundle / "verification.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="verification.npz is damaged"):
        verify(bundle)


def test_answers_of_another_model_are_refused(bundle, reseal, golden, model):
    first = golden.cases[0]
    other = type(first)(first.name, first.inputs, {"logits": first.outputs["logits"][..., 1:]}, first.per_token)
    save_golden(bundle / "verification.npz", type(golden)((other,), ()))
    reseal(bundle)
    with pytest.raises(ValueError, match="verification.npz is not a sound set .*`logits` must have the shape"):
        verify(bundle)


def test_every_damaged_file_is_named_and_not_opened(bundle, monkeypatch):
    opened, random = [], np.random.default_rng(0)
    monkeypatch.setattr(sys.modules["kzoo.export.verify"], "run_worker",
                        lambda what, *arguments, **spec: opened.append(spec["artifact"]["runtime"]) or {"rows": []})
    sound = read_bundle(bundle)
    assert verify(sound).passed and opened == ["keras", "savedmodel", "onnx", "tflite"]
    owners = {path: artifact.runtime for artifact in sound.artifacts for path in artifact.files}
    for path in [*sound.files, "manifest.json"]:
        content = (bundle / path).read_bytes()
        for _ in range(3):
            changed = bytearray(content)
            changed[random.integers(len(content))] ^= int(random.integers(1, 256))
            (bundle / path).write_bytes(changed)
            opened.clear()
            try:
                rows = verify(bundle).rows
                assert [row["check"] for row in rows if row["passed"] is False] == ["files"]
                message = rows[0]["note"]
            except ValueError as error:
                assert path in ("manifest.json", "verification.npz")
                message = str(error)
            assert str(bundle / path) in message, (path, message)
            if path in sound.shared_files():
                assert opened == []
            assert owners.get(path) not in opened
            if path in owners or path in sound.shared_files() or path == "manifest.json":
                with pytest.raises(ValueError) as refused:
                    open_bundle(bundle, owners.get(path, "onnx"))
                assert str(bundle / path) in str(refused.value)
        (bundle / path).write_bytes(content)
    assert check_bundle_files(read_bundle(bundle))[1] == set()


def test_a_folder_with_a_space_in_its_name_is_no_cover(here, bundle, tmp_path):
    spaced = shutil.copytree(bundle, tmp_path / "a b c")
    cut_short(spaced)
    rows = verify(spaced, runtimes=["tflite"]).rows
    assert [(row["artifact"], row["check"], row["passed"]) for row in rows] == [
        ("bundle", "files", False), ("tflite", "opens", None)]
    assert rows[1]["note"] == "not checked: its files are damaged"


def test_a_file_that_nobody_listed_is_named(here, bundle):
    (bundle / "vocab.txt").write_text("a")
    report = verify(bundle, runtimes=["onnx"])
    assert not report.passed and "vocab.txt is not listed by the manifest" in report.rows[0]["note"]
    assert report.rows[1]["note"] == "not checked: its files are damaged"


def test_a_file_of_other_sizes_is_asked_no_more(here, bundle, reseal):
    damage_name(bundle)
    reseal(bundle)
    rows = verify(bundle, runtimes=["onnx"]).rows
    assert [(row["check"], row["passed"]) for row in rows][:2] == [("files", True), ("names, shapes, dtypes", False)]
    assert not any("logits" in row["check"] or "cached" in row["check"] for row in rows)  # but it is audited


# Processes of their own.

def test_the_command_line_names_a_damaged_file(bundle, capsys):
    (bundle / "README.md").write_text("words")
    for path in bundle.glob("[st]*/*"):  # so that ONNX alone is opened; the others are missing
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(bundle / "keras")
    assert main(["verify", str(bundle)]) == 1
    out, err = capsys.readouterr()
    assert f"{bundle / 'README.md'} is damaged" in out and "failed verification" in err
    assert "onnx        cached = uncached" in out and "not checked: its files are damaged" in out


@pytest.mark.parametrize(("code", "note"), [
    ("os.kill(os.getpid(), signal.SIGSEGV)", "The process verifying onnx was killed by SIGSEGV."),
    ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL, most likely because memory ran out."),
    ("time.sleep(600)", "The process verifying onnx was not done after 0.5 seconds and was ended."),
])
def test_what_a_runtime_does_to_its_process_is_a_failed_row(exported, tmp_path, monkeypatch, code, note):
    (tmp_path / "sitecustomize.py").write_text(f"import os, signal, time\n{code}\n")  # as the process starts
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    report = verify(exported[0], runtimes=["onnx"], timeout=0.5 if "sleep" in code else 600)
    assert [(row["check"], row["passed"]) for row in report.rows] == [("files", True), ("opens and answers", False)]
    assert not report.passed and note in report.rows[1]["note"]

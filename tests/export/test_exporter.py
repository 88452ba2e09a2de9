"""The whole export: what it writes, what it refuses, and that nothing failed is kept."""
import json
import os
import shutil
import types

import pytest

import kzoo
from kzoo.errors import CheckFailed
from kzoo.export import export, exporter, read_bundle, worker
from kzoo.export.exporter import make_plan
from kzoo.export.tflite_model import TFLiteTarget
from kzoo.export.verify import check_bundle_files

FILES = ["README.md", "config.json", "generation_config.json", "keras/model.safetensors", "onnx/genai_config.json",
         "onnx/model.onnx", "onnx/tokenizer.json", "report.html", "saved_model/1/saved_model.pb",
         "tflite/model.litertlm", "tflite/model.tflite", "tokenizer.json", "tokenizer_config.json", "verification.npz"]


def test_a_bundle_holds_what_it_promises(exported):
    folder, lines = exported
    bundle = read_bundle(folder)
    assert set(FILES) <= set(bundle.files)
    on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert on_disk == {*bundle.files, "manifest.json"}
    assert [artifact.name for artifact in bundle.artifacts] == ["keras", "savedmodel", "onnx", "tflite"]
    for artifact in bundle.artifacts:
        assert artifact.verification["passed"] and artifact.verification["rows"]
        assert artifact.record["seconds"] > 0 and artifact.record["peak_memory"] > (
            1e6 if artifact.name == "onnx" else 0)  # the one with a process of its own, see `exported`
    assert bundle.manifest["versions"]["tensorflow"] and bundle.manifest["kzoo"] == kzoo.__version__
    assert [line for line in lines if line.startswith("onnx")][0] == "onnx: converting"
    assert "all verified" in lines[-1]


def test_the_folder_is_left_clean(exported):
    assert [path.name for path in exported[0].parent.iterdir()] == ["bundle"]


@pytest.fixture
def fake_worker(exported, monkeypatch):
    """Conversions copy the exported files, with `damage` done to one runtime; comparisons are real."""
    damages = {}

    def run_worker(what, work, **spec):
        if spec["command"] == "check":
            return worker.check(spec)
        artifact = read_bundle(exported[0]).find(spec["format"])
        for name in artifact.files:
            if not name.endswith((".json", ".litertlm")):
                target = os.path.join(spec["bundle"], name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copy(exported[0] / name, target)
        if spec["format"] in damages:
            damages[spec["format"]](os.path.join(spec["bundle"], artifact.file))
        return {"files": [name for name in artifact.files if not name.endswith((".json", ".litertlm"))],
                "seconds": 1.0, "peak_memory": 7}

    monkeypatch.setattr(exporter, "run_worker", run_worker)
    return damages


def cut_short(path):
    with open(path, "r+b") as file:
        file.truncate(999)


def test_a_failed_artifact_is_removed_and_the_others_stay(model, fake_worker, tmp_path):
    fake_worker["tflite"] = cut_short
    with pytest.raises(CheckFailed, match="tflite failed verification: opens.*It was removed"):
        export(model, tmp_path / "b", formats=("onnx", "tflite"), progress=lambda line: None)
    bundle = read_bundle(tmp_path / "b")
    assert [artifact.name for artifact in bundle.artifacts] == ["onnx"]
    assert not (tmp_path / "b/tflite").exists()
    bundle.check_files(bundle.files)


def test_a_failed_artifact_stays_if_asked_for(model, fake_worker, tmp_path):
    fake_worker["onnx"] = cut_short
    with pytest.raises(CheckFailed, match="onnx failed verification.*kept as asked"):
        export(model, tmp_path / "b", formats="onnx", keep_failed=True, progress=lambda line: None)
    (artifact,) = read_bundle(tmp_path / "b").artifacts
    assert not artifact.verification["passed"] and (tmp_path / "b/onnx/model.onnx").is_file()
    assert "failed" in (tmp_path / "b/report.html").read_text()
    assert "**no**" in (tmp_path / "b/README.md").read_text()


def test_nothing_is_kept_if_everything_failed(model, fake_worker, tmp_path):
    fake_worker["onnx"] = cut_short
    with pytest.raises(CheckFailed, match="Nothing was kept"):
        export(model, tmp_path / "b", formats="onnx", progress=lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_servers_folders_belong_to_the_bundle(model, fake_worker, tmp_path):
    bundle = export(model, tmp_path / "b", formats=("onnx", "tflite"), layout=("triton", "kserve"),
                    progress=lambda line: None)
    served = ["triton/gpt2/1/model.onnx", "triton/gpt2/config.pbtxt", "kserve/gpt2-onnx/inference_service.yaml"]
    assert set(served) <= set(bundle.files)
    assert "--model-repository" in (tmp_path / "b/README.md").read_text()
    copy = read_bundle(shutil.copytree(tmp_path / "b", tmp_path / "copy"))
    copy.check_files(copy.files)
    assert kzoo.open_bundle(copy).generate([3, 5], max_new_tokens=2)[:2] == [3, 5]
    cut_short(tmp_path / "copy/triton/gpt2/1/model.onnx")
    assert [row["note"] for row in check_bundle_files(copy)[0] if not row["passed"]] == [
        copy.file_problem("triton/gpt2/1/model.onnx")]


def test_servers_get_no_failed_artifact(model, fake_worker, tmp_path):
    fake_worker["onnx"] = cut_short
    with pytest.raises(CheckFailed):
        export(model, tmp_path / "b", formats=("onnx", "tflite"), layout="triton", keep_failed=True,
               progress=lambda line: None)
    assert (tmp_path / "b/onnx").exists() and not (tmp_path / "b/triton").exists()


def test_an_interrupted_export_leaves_nothing(model, fake_worker, tmp_path):
    def interrupt(path):
        raise KeyboardInterrupt
    fake_worker["onnx"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        export(model, tmp_path / "b", formats="onnx", progress=lambda line: None)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_refused_before_any_work(model, fake_worker, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b/mine").write_text("keep")
    lines = []
    with pytest.raises(FileExistsError, match="already exists"):
        export(model, tmp_path / "b", formats="onnx", progress=lines.append)
    assert lines == [] and (tmp_path / "b/mine").read_text() == "keep"
    export(model, tmp_path / "b", formats="onnx", overwrite=True, progress=lines.append)
    assert not (tmp_path / "b/mine").exists() and (tmp_path / "b/manifest.json").is_file()


def test_a_model_without_a_tokenizer_is_exported_too(model, fake_worker, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "tokenizer", None)
    bundle = export(model, tmp_path / "b", formats=("onnx", "tflite"), progress=lambda line: None)
    assert not any("tokenizer" in name or name.endswith(".litertlm") for name in bundle.files)
    assert json.loads((tmp_path / "b/onnx/genai_config.json").read_text())["model"]["eos_token_id"] == 311
    assert kzoo.open_bundle(bundle).generate([3, 5], max_new_tokens=2)[:2] == [3, 5]


@pytest.mark.parametrize(("arguments", "message"), [
    ({"formats": ("onyx",)}, "Unknown format 'onyx'. Did you mean 'onnx'"),
    ({"formats": ()}, "`formats` is empty"),
    ({"quantize": ("int77",)}, "Unknown quantisation 'int77'"),
    ({"layout": ("tritn",)}, "Unknown layout 'tritn'. Did you mean 'triton'"),
    ({"layout": "tfserving", "formats": ("onnx", "tflite")}, "'tfserving' needs the format 'savedmodel'"),
    ({"eval_data": "rows.tsv"}, "`quantize` .--quantize. names none. Add one"),
    ({"calibration_data": "rows.tsv"}, "`quantize` .--quantize. names none. Add int8_full"),
    ({"quantize": "int8_full", "formats": "tflite"}, "models that answer a text at once; those of the task 'text-gen"),
])
def test_a_wrong_plan_is_refused_before_any_work(model, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        export(model, tmp_path / "b", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_a_format_cannot_hold_is_refused_before_any_work(model, tmp_path, monkeypatch):
    monkeypatch.setattr(TFLiteTarget, "most_bytes", 4 * model.count_params() - 1)
    with pytest.raises(ValueError, match="'tflite': its files hold at most .* GB, .* Leave it out of `formats`"):
        export(model, tmp_path / "b", formats=("onnx", "tflite"))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(TFLiteTarget, "most_bytes", 4 * model.count_params())
    TFLiteTarget().check_size(model)


def test_what_is_no_kzoo_model_is_refused(tmp_path):
    with pytest.raises(TypeError, match="kzoo task model"):
        export(object(), tmp_path / "b")


def test_a_task_without_signatures_is_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="Models of the task 'singing' cannot be exported; those of text-generation"):
        export(types.SimpleNamespace(backbone=None, task="singing"), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


class Target:
    def __init__(self, name, *quantisations):
        self.name, self.quantisations = name, quantisations

    def check(self, quantize):
        raise ValueError(f"{self.name} has no {quantize}")


def test_a_format_that_lacks_a_variant_is_written_in_the_others(monkeypatch):
    targets = {"onnx": Target("onnx", "none", "int8"), "tflite": Target("tflite", "none")}
    monkeypatch.setattr(exporter, "get_target", targets.get)
    plan = make_plan(("tflite", "onnx"), ("int8", "none"))
    assert [(target.name, variant) for target, variant in plan] == [("onnx", "none"), ("onnx", "int8"),
                                                                    ("tflite", "none")]
    with pytest.raises(ValueError, match="tflite has no int8"):
        make_plan(("onnx", "tflite"), "int8")


def test_a_portable_bundle_keeps_to_the_standard(model, exported, export_here, tmp_path, monkeypatch):
    bundle = export_here(model, tmp_path / "b", formats=("onnx",), portable=True)
    artifact = bundle.find("onnx")
    assert bundle.manifest["portable"] is True and artifact.verification["passed"]
    assert artifact.record["operators"]["LayerNormalization"] == 5
    assert not [kind for kind in artifact.record["operators"] if "." in kind]  # none has a domain
    with pytest.raises(ValueError, match=r"'int8' needs operators of ONNX Runtime's own, and `portable`"):
        export(model, tmp_path / "c", formats=("onnx",), quantize=("int8",), portable=True)
    assert [(target.name, variant) for target, variant in make_plan(("onnx", "tflite"), ("fp16", "int8"), True)] == [
        ("onnx", "fp16"), ("tflite", "fp16"), ("tflite", "int8")]

    class Fused:
        def write(self, model, folder, quantize):
            (folder / "onnx").mkdir()
            shutil.copy(exported[0] / "onnx/model.onnx", folder / "onnx")
            return ["onnx/model.onnx"]

    monkeypatch.setattr("kzoo.export.target.get_target", lambda *args: Fused())
    with pytest.raises(CheckFailed, match="onnx failed verification: audit: known operators only"):
        export_here(model, tmp_path / "d", formats=("onnx",), portable=True)
    assert not (tmp_path / "d").exists()

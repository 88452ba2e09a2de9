"""Files that take strings are held to their tokenizer and to the file beside them."""
import json
import shutil
import sys

import numpy as np
import onnx
import pytest

from kzoo.errors import CheckFailed
from kzoo.export import exporter, open_bundle, read_bundle, verify
from kzoo.export.session import TEXT_RUNTIMES
from kzoo.export.verify import open_artifact
from tests import onnx_operators

onnx_operators.need()


def rows_of(folder):
    return {row["check"].split(" ")[0]: row for row in verify(folder, runtimes=["onnx-text"], variants=["none"]).rows}


def test_a_sound_file_passes(text_bundle):
    assert verify(text_bundle[1]).passed
    rows = rows_of(text_bundle[1])
    assert rows["ids"]["passed"] and rows["answers"]["passed"] and rows["names,"]["passed"]


def test_another_tokenizer_is_caught(text_copy, reseal):
    path = text_copy / "tokenizer.json"
    parts = json.loads(path.read_text(encoding="utf-8"))
    parts["normalizer"]["lowercase"] = not parts["normalizer"]["lowercase"]
    path.write_text(json.dumps(parts), encoding="utf-8")
    reseal(text_copy)
    rows = rows_of(text_copy)
    assert rows["ids"]["passed"] is False and "other ids for" in rows["ids"]["note"]


def test_another_model_beside_it_is_caught(text_copy, reseal):
    graph = onnx.load(text_copy / "onnx/model.onnx")
    bias = next(each for each in graph.graph.initializer  # of the three classes
                if list(each.dims) == [3] and each.data_type == onnx.TensorProto.FLOAT)
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32([0, 1, 0]), bias.name))
    onnx.save(graph, text_copy / "onnx/model.onnx")
    reseal(text_copy)
    rows = rows_of(text_copy)
    assert rows["ids"]["passed"] and rows["answers"]["passed"] is False
    assert rows["answers"]["value"] > rows["answers"]["limit"]


def test_a_runtime_that_is_not_installed_is_said(text_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    monkeypatch.delitem(sys.modules, TEXT_RUNTIMES["onnx-text"][0])
    bundle = read_bundle(text_bundle[1])
    session, (row,) = open_artifact(bundle, bundle.find("onnx-text"))
    assert session is None and row["passed"] is None and "kzoo[text]" in row["note"]
    with pytest.raises(ImportError, match=r"pip install 'kzoo\[text\]'"):
        open_bundle(text_bundle[1], runtime="onnx-text")


def test_a_file_that_goes_takes_the_one_with_text_along(text_bundle, tmp_path, monkeypatch):
    model, folder = text_bundle

    def run_worker(what, work, command, **spec):
        if command == "convert":
            files = read_bundle(folder).find(spec["format"]).files
            for name in files:
                (tmp_path / spec["bundle"] / name).parent.mkdir(exist_ok=True)
                shutil.copy(folder / name, tmp_path / spec["bundle"] / name)
            return {"files": files, "seconds": 1.0, "peak_memory": 7}
        row = {"artifact": "", "check": "opens", "value": None, "limit": None, "note": ""}
        return {"rows": [{**row, "passed": spec["artifact"]["runtime"] != "onnx"}], "latency": {}, "record": {}}

    monkeypatch.setattr(exporter, "run_worker", run_worker)
    monkeypatch.setattr(exporter, "write_reference", lambda *arguments: None)
    with pytest.raises(CheckFailed, match="onnx failed .* onnx-text failed .* Nothing was kept"):
        exporter.export(model, tmp_path / "b", formats=("onnx",), text=True, progress=lambda line: None)

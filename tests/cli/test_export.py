"""`kzoo export` and `kzoo verify`."""
import json
import types

import pytest

import kzoo.export
from kzoo.cli import main


@pytest.fixture
def write_bundle(replace, monkeypatch, tmp_path):
    """Replaces loading and exporting; returns the recorded loads and exports."""
    loads, exports = replace("load", "the model"), []
    monkeypatch.setitem(kzoo.export.__dict__, "export", lambda *args, **kwargs: exports.append((args, kwargs)))
    return loads.calls, exports


def verified(monkeypatch, passed):
    rows = [{"artifact": "onnx", "check": "logits", "passed": passed}]
    report = types.SimpleNamespace(passed=passed, rows=rows)
    monkeypatch.setitem(kzoo.export.__dict__, "verify", lambda path: report)
    return rows


def test_options_are_passed_by_their_name(write_bundle, tmp_path, capsys):
    loads, exports = write_bundle
    bundle = str(tmp_path / "bundle")
    assert main(["export", str(tmp_path), bundle]) == 0
    assert main(["export", str(tmp_path), bundle, "--formats", "onnx,tflite", "--quantize", "none,int8", "--task",
                 "text-generation", "--text", "--portable", "--keep-failed", "--overwrite", "--layout",
                 "triton,kserve", "--layout", "tfserving"]) == 0
    assert [call[1]["task"] for call in loads] == [None, "text-generation"]
    assert exports == [(("the model", bundle), {}), (("the model", bundle), {
        "formats": ("onnx", "tflite"), "quantize": ("none", "int8"), "text": True, "portable": True, "overwrite": True,
        "keep_failed": True, "layout": ["triton", "kserve", "tfserving"]})]
    assert capsys.readouterr().out == f"{bundle}\n" * 2


@pytest.mark.parametrize("words, message", [
    (["--formats", "onnx,tflight"], "Unknown format 'tflight'. Did you mean 'tflite'?"),
    (["--formats", ""], "must be names separated by commas"),
    (["--layout", "triton,kserv"], "Unknown layout 'kserv'. Did you mean 'kserve'?"),
    (["--task", "text"], "Unknown task 'text'"),
])
def test_bad_options_are_refused_before_loading(write_bundle, tmp_path, capsys, words, message):
    assert main(["export", str(tmp_path), str(tmp_path / "bundle"), *words]) == 2
    assert message in capsys.readouterr().err
    assert write_bundle == ([], [])


def test_a_bundle_that_exists_is_refused_before_loading(write_bundle, tmp_path, capsys):
    (tmp_path / "bundle").mkdir()
    assert main(["export", str(tmp_path), str(tmp_path / "bundle")]) == 2
    assert "already exists" in capsys.readouterr().err
    assert write_bundle == ([], [])


@pytest.mark.parametrize("passed, status", [(True, 0), (False, 1)])
def test_verification_sets_the_status(monkeypatch, tmp_path, capsys, passed, status):
    rows = verified(monkeypatch, passed)
    assert main(["verify", str(tmp_path)]) == status
    assert f"onnx      logits  {'yes' if passed else 'NO'}" in capsys.readouterr().out
    assert main(["verify", str(tmp_path), "--json"]) == status
    assert json.loads(capsys.readouterr().out) == {"passed": passed, "rows": rows}


def test_what_could_not_be_checked_is_said(monkeypatch, tmp_path, capsys):
    rows = verified(monkeypatch, True)
    assert main(["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    rows += [{"artifact": "tflite int8", "check": "opens", "passed": None}] * 2
    assert main(["verify", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err == "Not checked here: tflite int8. Their notes say why.\n" and "tflite int8  opens   -" in out

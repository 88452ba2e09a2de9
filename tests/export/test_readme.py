"""The README that lies in every bundle."""
import re

from kzoo.export import read_bundle
from kzoo.export.readme import render_readme


def test_every_artifact_has_its_way_to_run(exported):
    text = (exported[0] / "README.md").read_text(encoding="utf-8")
    for word in ("Python", "Kotlin", "Swift", "JavaScript", "C++", "tf.saved_model.load", "litert_lm",
                 "onnx/model.onnx", "tflite/model.tflite", "`prefill_8`", "`prefill_32`", "(1, 53, 3, 5)"):
        assert word in text, word
    assert "$" not in text.replace("$PWD", "")


def test_only_what_is_there_is_explained(exported):
    manifest = read_bundle(exported[0]).manifest
    only = [row for row in manifest["artifacts"] if row["runtime"] == "tflite"]
    text = render_readme({**manifest, "artifacts": only})
    assert "Kotlin" in text and "optimum" not in text and "pip install kzoo[tflite]" in text
    assert re.search(r"open_bundle\(.*runtime=\"tflite\"", text)

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


def test_files_that_take_strings_have_theirs(text_bundle):
    manifest = read_bundle(text_bundle[1]).manifest
    rows = [{**manifest["artifacts"][0], "runtime": runtime, "file": f"the file of {runtime}"}
            for runtime in ("tflite", "onnx-text", "tflite-text", "savedmodel-text")]
    text = render_readme({**manifest, "artifacts": rows})
    for word in ("register_custom_ops_library", '"the file of onnx-text"', "SELECT_TFTEXT_OPS", "cut at their end",
                 "import tensorflow as tf, tensorflow_text", "`label` string (batch_size)", "`answer_32`, `answer_41`"):
        assert word in text, word
    assert "$" not in text.replace("$PWD", "")
    assert "SELECT_TFTEXT_OPS" not in (text_bundle[1] / "README.md").read_text(encoding="utf-8")

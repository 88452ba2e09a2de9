"""Every example runs to its end; the second one uses what the first one leaves."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
# Example -> its constants, made smaller.
EXAMPLES = {
    "train_and_export.py": {"EPOCHS": "1", "WINDOW": "16", "STRIDE": "64"},
    "load_and_generate.py": {"NEW_TOKENS": "7"},
}


def shrink(text, constants):
    """The source with other values for its constants; each must be there, at the start of a line."""
    for name, value in constants.items():
        text, count = re.subn(rf"^{name} = .+$", f"{name} = {value}", text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"The example has {count} lines that set {name}.")
    return text


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Name -> what the example printed; all run in one folder, in order."""
    folder = tmp_path_factory.mktemp("examples")
    printed = {}
    for name, constants in EXAMPLES.items():
        source = shrink((CHECKOUT / "examples" / name).read_text(encoding="utf-8"), constants)
        (folder / name).write_text(source, encoding="utf-8")
        done = subprocess.run([sys.executable, name], cwd=folder, capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": str(CHECKOUT), "KERAS_BACKEND": "tensorflow"})
        assert done.returncode == 0, done.stderr[-3000:]
        printed[name] = done.stdout
    return printed


def test_every_example_is_tested():
    assert {path.name for path in (CHECKOUT / "examples").glob("*.py")} == set(EXAMPLES)


def test_what_is_trained_is_exported_and_verified(outputs):
    rows = outputs["train_and_export.py"].splitlines()
    assert any(row.startswith("onnx") and row.endswith("passed") for row in rows)
    assert any(row.startswith("tflite") and row.endswith("passed") for row in rows)
    assert "FAILED" not in outputs["train_and_export.py"]


def test_every_runtime_continues_alike(outputs):
    assert outputs["load_and_generate.py"].count("the same continuation") == 2


def test_examples_use_public_names_only():
    for name in EXAMPLES:
        text = (CHECKOUT / "examples" / name).read_text(encoding="utf-8")
        assert re.findall(r"^from kzoo\.(\w+)", text, re.MULTILINE) in ([], ["export"]), name
        assert not re.search(r"\._[a-z]", text), name


def test_a_constant_that_is_gone_is_noticed():
    with pytest.raises(ValueError, match="has 0 lines that set STEPS"):
        shrink("EPOCHS = 3\n", {"STEPS": "1"})

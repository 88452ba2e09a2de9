"""Models of more than 2 GB: GPT-2 large, 774 million random weights. Takes 15 minutes, 12 GB of memory and of disk."""
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import kzoo
from kzoo.export import export, open_bundle, read_bundle

pytestmark = pytest.mark.skipif(not os.environ.get("KZOO_LARGE_MODELS"),
                                reason="takes minutes and 12 GB; KZOO_LARGE_MODELS=1 asks for it")
WEIGHTS = 4 * 774_030_080  # bytes


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large") / "run"
    kzoo.save(kzoo.create("gpt2-large"), folder)
    return folder


def test_beyond_2_gb_the_weights_lie_beside_the_graph(run, tmp_path):
    model = kzoo.load(run)
    with pytest.raises(ValueError, match=r"'tflite': its files hold at most 2.1 GB, .* 3.1 GB here"):
        export(model, tmp_path / "bundle", formats=("onnx", "tflite"))
    assert list(tmp_path.iterdir()) == []
    export(model, tmp_path / "bundle", formats=("onnx",), quantize=("none", "int8"))
    bundle = read_bundle(tmp_path / "bundle")
    whole, packed = bundle.find("onnx"), bundle.find("onnx", "int8")
    assert whole.files[:2] == ("onnx/model.onnx", "onnx/model.onnx_data") and whole.verification["passed"]
    assert bundle.files["onnx/model.onnx"][0] < 2e6
    assert WEIGHTS <= bundle.files["onnx/model.onnx_data"][0] < 1.001 * WEIGHTS
    assert packed.verification["passed"] and "onnx/model_int8.onnx_data" not in bundle.files
    for artifact in (whole, packed):
        assert artifact.record["peak_memory"] <= 3 * WEIGHTS
    prompt = np.random.default_rng(0).integers(0, 50257, 9).tolist()
    expected = model.generate(prompt, max_new_tokens=5, eos_token_id=())
    assert open_bundle(bundle, "onnx").generate(prompt, max_new_tokens=5, eos_token_id=()) == expected


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the worker's files as Linux has them")
def test_an_export_that_is_killed_while_it_writes_leaves_nothing(run, tmp_path):
    command = [sys.executable, "-m", "kzoo", "export", str(run), str(tmp_path / "bundle"), "--formats", "onnx"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(tmp_path.glob(".*/onnx/model.onnx_data")):
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
    assert process.returncode and not (tmp_path / "bundle").exists() and list(tmp_path.iterdir()) == []

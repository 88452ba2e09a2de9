"""Other people's programs open the bundle as it is and generate what we do.

They need packages that kzoo does not (torch among them), so they run in a Python of their own:
KZOO_CLIENTS=/path/to/python of an environment with optimum-onnx, onnxruntime-genai and litert-lm.
"""
import json
import os
import pathlib
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).with_name("clients.py")
PYTHON = os.environ.get("KZOO_CLIENTS")

pytestmark = pytest.mark.skipif(not PYTHON, reason="KZOO_CLIENTS names no Python with the other programs")


def ask(*words):
    finished = subprocess.run([PYTHON, str(SCRIPT), *map(str, words)], capture_output=True, text=True, check=False,
                              cwd=SCRIPT.parent, env={**os.environ, "PYTHONPATH": ""})
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("client", ["optimum", "genai"])
def test_ids_are_ours(exported, model, client, beams):
    expected = model.generate([5, 3, 2], max_new_tokens=13, num_beams=beams, eos_token_id=())
    assert len(set(expected)) > 4
    assert ask(client, exported[0], [5, 3, 2], 13, beams) == expected


def test_litert_lm_writes_our_text(exported, model):
    expected = model.generate("the quick", max_new_tokens=13, eos_token_id=())
    assert "the quick" + ask("litert_lm", exported[0], '"the quick"', 13) == expected

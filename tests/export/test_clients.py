"""Other people's programs open the bundle as it is and say what we do.

They need packages that kzoo does not (torch among them), so they run in a Python of their own:
KZOO_CLIENTS=/path/to/python of an environment with optimum-onnx, onnxruntime-genai and litert-lm.
"""
import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

import kzoo
from kzoo.export import open_bundle

SCRIPT = pathlib.Path(__file__).with_name("clients.py")
PYTHON = os.environ.get("KZOO_CLIENTS")

pytestmark = pytest.mark.skipif(not PYTHON, reason="KZOO_CLIENTS names no Python with the other programs")


def ask(client, folder, *arguments):
    finished = subprocess.run([PYTHON, str(SCRIPT), client, str(folder), *map(json.dumps, arguments)], check=False,
                              capture_output=True, text=True, cwd=SCRIPT.parent, env={**os.environ, "PYTHONPATH": ""})
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
    assert "the quick" + ask("litert_lm", exported[0], "the quick", 13) == expected


SIZES = {"vocabulary_size": 31, "num_layers": 2, "num_heads": 3, "hidden_dim": 18, "intermediate_dim": 17,
         "max_sequence_length": 45}
ANSWERS = {  # task -> Optimum's class, settings of the model
    "text-classification": ("ORTModelForSequenceClassification", {"labels": ("a", "b", "c")}),
    "token-classification": ("ORTModelForTokenClassification", {"labels": ("O", "B-X")}),
    "fill-mask": ("ORTModelForMaskedLM", {}),
    "question-answering": ("ORTModelForQuestionAnswering", {}),
    "feature-extraction": ("ORTModelForFeatureExtraction", {}),
}


@pytest.mark.parametrize("task", ANSWERS)
def test_encoders_answer_as_ours(redrawn, export_here, tmp_path, task):
    cls, settings = ANSWERS[task]
    model = redrawn(kzoo.create("bert-tiny", task=task, **SIZES, **settings))
    export_here(model, tmp_path / "bundle", formats=("onnx",))
    ids = [5, 3, 2, 30, 11]
    expected = open_bundle(tmp_path / "bundle").run("forward", {"token_ids": [ids]})
    found = ask("optimum_answer", tmp_path / "bundle", cls, ids)
    names = {"hidden_states": "last_hidden_state"}
    compared = [name for name in expected if names.get(name, name) in found]
    assert compared
    for name in compared:
        np.testing.assert_allclose(found[names.get(name, name)], expected[name], atol=1e-5)


@pytest.mark.parametrize("preset", ["marian-base", "t5-v1.1-small"])
def test_encoder_decoders_write_the_same(redrawn, export_here, tmp_path, preset):
    special = {"pad_id": 30, "eos_id": 1, "decoder_start_id": 30} if preset == "marian-base" else {}
    model = redrawn(kzoo.create(preset, task="translation", **SIZES, **special))
    export_here(model, tmp_path / "bundle", formats=("onnx",))
    for beams in (1, 3):
        expected = model.generate([5, 3, 2, 29, 1], max_new_tokens=13, num_beams=beams)
        for merged in (False, True):
            found = ask("optimum_translate", tmp_path / "bundle", [5, 3, 2, 29, 1], 13, beams, merged)
            assert found[1:] == expected  # theirs begins with the token that targets start from

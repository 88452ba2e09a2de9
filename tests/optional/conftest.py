"""The interpreter of the peers, and what the tests beside this share."""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

CLIENT = pathlib.Path(__file__).with_name("transformers_client.py")


@pytest.fixture(scope="session")
def interpreter():
    """One that has torch and transformers; ours where it has them."""
    named = os.environ.get("KZOO_PEERS_PYTHON")
    if named:
        return named
    if all(importlib.util.find_spec(name) for name in ("torch", "transformers")):
        return sys.executable
    pytest.skip("torch and transformers are not here; KZOO_PEERS_PYTHON can name an interpreter that has them")


@pytest.fixture(scope="session")
def visit(interpreter):
    """A function that has transformers open folders with a class of its own: (class, folders)."""
    def run(name, folders):
        done = subprocess.run([interpreter, str(CLIENT), name, *map(str, folders)], text=True, capture_output=True)
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture(scope="session")
def report():
    """A function that says what transformers reported of a folder, after a look at what it found amiss: nothing."""
    def read(folder, kind, usual=""):
        """`usual`: words of a warning that it gives of its own files, too."""
        found = json.loads((folder / "report.json").read_text())
        assert found["kind"] == kind
        assert found["missing_keys"] == found["unexpected_keys"] == found["mismatched_keys"] == []
        unexpected = [text for text in found["warnings"] if not (usual and usual in text)]
        assert not [text for text in unexpected if "weight" in text.lower()], unexpected
        return found

    return read


def redraw(model, rng):
    """Every weight from N(0, 0.3)."""
    model.set_weights([rng.normal(0, 0.3, weight.shape) for weight in model.weights])
    return model


@pytest.fixture(scope="session")
def redrawn():
    rng = np.random.default_rng(0)
    return lambda model: redraw(model, rng)

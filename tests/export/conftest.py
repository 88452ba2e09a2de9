"""One exported bundle for all tests here: conversions cost seconds each."""
import json
import os
import shutil

import numpy as np
import pytest
from filelock import FileLock

import kzoo
from kzoo import wordpiece_characters
from kzoo.export import export, exporter, read_bundle
from kzoo.export.exporter import finish
from kzoo.export.process import run_worker
from kzoo.export.text_forms import DIFFICULT

TEXT = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs"] * 5


@pytest.fixture(scope="session")
def redrawn():
    """A function that draws every weight of a model anew, large enough that no part of it can hide."""
    def redraw(model, seed=0):
        random = np.random.default_rng(seed)
        for weight in model.trainable_weights:
            # Positions count most, so that greedy text does not repeat one token.
            weight.assign(random.normal(0, 2.0 if "position" in weight.path else 0.3, weight.shape))
        return model
    return redraw


@pytest.fixture(scope="session")
def model(redrawn):
    """Sizes that share no factor, so that a swapped axis cannot pass."""
    tokenizer = kzoo.train_tokenizer("byte-bpe", TEXT, vocabulary_size=307)
    return redrawn(kzoo.create("gpt2-nano", tokenizer=tokenizer, vocabulary_size=311, num_layers=2, num_heads=3,
                               hidden_dim=15, intermediate_dim=17, max_sequence_length=53))


@pytest.fixture(scope="session")
def export_here(run_here):
    """`export` without processes of its own, each of which costs seconds to start; `exported` has them."""
    def export_here(model, folder, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exporter, "run_worker", run_here)
            return export(model, folder, **{"progress": lambda line: None, **options})
    return export_here


@pytest.fixture(scope="session")
def few_points():
    """WordPiece inside a graph asks for the characters that tests use: all of Unicode takes ten seconds."""
    points = {*range(0x250), *(ord(character) for text in DIFFICULT for character in text), 0x2603}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wordpiece_characters, "CODE_POINTS", sorted(points))
        yield


@pytest.fixture(scope="session")
def text_bundle(redrawn, export_here, few_points, tmp_path_factory):
    """(model, folder) of a classifier as ONNX, with files that take strings; tests that change it take `text_copy`."""
    tokenizer = kzoo.train_tokenizer("wordpiece", TEXT, vocabulary_size=60)
    model = redrawn(kzoo.create("bert-tiny", task="text-classification", labels=("short", "long", "neither"),
                                tokenizer=tokenizer, vocabulary_size=67, num_layers=1, num_heads=3, hidden_dim=18,
                                intermediate_dim=17, max_sequence_length=41))
    folder = tmp_path_factory.mktemp("text") / "bundle"
    export_here(model, folder, formats=("onnx",), text=True)
    return model, folder


@pytest.fixture
def text_copy(text_bundle, tmp_path):
    """A copy of that bundle, to be damaged."""
    return shutil.copytree(text_bundle[1], tmp_path / "bundle")


@pytest.fixture(scope="session")
def exported(model, run_here, tmp_path_factory):
    """(folder, lines of progress) of a bundle in all formats; tests that change it take `bundle`.

    It takes half a minute, so the processes of a run write it once for all of them. One format is converted and
    verified in processes of their own, as users' are.
    """
    def run(what, *args, **spec):
        return (run_worker if "onnx" in what else run_here)(what, *args, **spec)

    parent = tmp_path_factory.getbasetemp()
    parent = parent.parent if "PYTEST_XDIST_WORKER" in os.environ else parent
    folder, progress = parent / "exported" / "bundle", parent / "progress.json"
    with FileLock(parent / "exported.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporter, "run_worker", run)
        if not progress.exists():
            lines = []
            export(model, folder, formats=("keras", "savedmodel", "onnx", "tflite"), progress=lines.append,
                   overwrite=True,  # another process may have failed half-way
                   history=[{"step": 1, "loss": 5.5}, {"step": 7, "loss": 4.25, "validation_loss": 4.5}],
                   samples=[{"prompt": "the", "text": "the <fox>", "source": "onnx"}])
            progress.write_text(json.dumps(lines))
    return folder, json.loads(progress.read_text())


@pytest.fixture
def bundle(exported, tmp_path):
    """A copy of the bundle, to be damaged."""
    return shutil.copytree(exported[0], tmp_path / "bundle")


@pytest.fixture
def reseal():
    """Make a bundle's manifest agree with its changed files, as one who knows how would."""
    def reseal(folder):
        opened = read_bundle(folder)
        (folder / "manifest.json").unlink()
        finish(folder, {name: value for name, value in opened.manifest.items() if name not in ("files", "artifacts")},
               opened.artifacts, {})
    return reseal

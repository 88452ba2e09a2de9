"""Imports point one way: layers -> models -> tasks -> export, with the small shared files below all of them."""
import ast
import pathlib

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
# What each part must not import: everything that is built from it.
ABOVE = {
    "errors": ("kzoo.files", "kzoo.config", "kzoo.registry", "kzoo.checkpoint", "kzoo.saving", "kzoo.layers",
               "kzoo.models", "kzoo.tasks", "kzoo.training", "kzoo.evaluation", "kzoo.export", "kzoo.cli"),
    "layers": ("kzoo.saving", "kzoo.models", "kzoo.tasks", "kzoo.training", "kzoo.evaluation", "kzoo.export",
               "kzoo.cli"),
    "models": ("kzoo.saving", "kzoo.tasks", "kzoo.training", "kzoo.evaluation", "kzoo.export", "kzoo.cli"),
    "tasks": ("kzoo.training", "kzoo.evaluation", "kzoo.export", "kzoo.cli"),
    "export": ("kzoo.training", "kzoo.cli"),
    "training": ("kzoo.cli",),
}
BELOW_ALL = ("layers", "models", "tasks", "training", "evaluation", "export", "saving", "cli")
for lowest in ("config", "files", "registry", "checkpoint", "hugging_face", "weight_table", "tensor_files",
               "tokenizers"):
    ABOVE[lowest] = tuple(f"kzoo.{name}" for name in BELOW_ALL)
BACKENDS = ("tensorflow", "jax", "torch")
FAMILIES = ("gpt2", "gpt-2", "bert", "t5", "reformer", "longformer", "transformer_xl", "transformer-xl", "marian")


def sources(part):
    """path -> text of a part: one file, a subpackage, or the export package beside them."""
    root = CHECKOUT / "export" if part == "export" else CHECKOUT / "kzoo" / part
    files = sorted(root.rglob("*.py")) if root.is_dir() else [root.with_suffix(".py")]
    return {str(path.relative_to(CHECKOUT)): path.read_text(encoding="utf-8") for path in files}


def imports(text, top_level_only=False):
    """(line, module) of every import in a source text."""
    tree = ast.parse(text)
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def forbidden_imports(text, forbidden):
    return [f"line {line}: {module}" for line, module in imports(text)
            if any(f"{module}.".startswith(f"{name}.") for name in forbidden)]


def families_named(text):
    """Names of families in a source text, in code and strings; docstrings and comments may give examples."""
    tree = ast.parse(text)
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, holders) and node.body
                  and isinstance(node.body[0], ast.Expr)}
    words = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            words.append((node.lineno, node.value))
        elif isinstance(node, ast.Name):
            words.append((node.lineno, node.id))
        elif isinstance(node, (ast.Attribute, ast.alias)):
            words.append((node.lineno, node.attr if isinstance(node, ast.Attribute) else node.name))
    return [f"line {line}: {word}" for line, word in words if any(name in word.lower() for name in FAMILIES)]


@pytest.mark.parametrize("part", ABOVE)
def test_a_part_imports_nothing_that_is_built_from_it(part):
    faults = {path: forbidden_imports(text, ABOVE[part]) for path, text in sources(part).items()}
    assert {path: lines for path, lines in faults.items() if lines} == {}


@pytest.mark.parametrize("part", ["layers", "models", "tasks"])
def test_no_backend_is_imported_directly(part):
    faults = {path: forbidden_imports(text, BACKENDS) for path, text in sources(part).items()}
    assert {path: lines for path, lines in faults.items() if lines} == {}


def test_export_names_no_family():
    faults = {path: families_named(text) for path, text in sources("export").items()}
    assert {path: lines for path, lines in faults.items() if lines} == {}


@pytest.mark.parametrize("part", ["tokenizers", "tasks/generate", "tasks/sampling", "tasks/beams", "tasks/answering",
                                  "tasks/answers", "tasks/windows", "tasks/entities"])
def test_what_a_bundle_needs_to_run_loads_no_backend(part):
    for path, text in sources(part).items():
        top = [module for _, module in imports(text, top_level_only=True)]
        assert [name for name in top if name.split(".")[0] in ("keras", *BACKENDS)] == [], path


@pytest.mark.parametrize("text", [
    "import kzoo.models",
    "from kzoo import models",
    "from kzoo.models.gpt2 import GPT2Config",
    "def late():\n    from kzoo.models import gpt2",
])
def test_a_wrong_import_is_noticed(text):
    assert forbidden_imports(text, ABOVE["layers"]) != []


def test_a_right_import_is_not():
    assert forbidden_imports("import keras\nfrom kzoo.layers import masks\nimport kzoo.models_of_mine",
                             ABOVE["layers"]) == []
    assert forbidden_imports("from keras import ops", BACKENDS) == []


@pytest.mark.parametrize("text", ["import tensorflow as tf", "from jax import numpy", "import tensorflow.io"])
def test_a_backend_is_noticed(text):
    assert forbidden_imports(text, BACKENDS) != []


@pytest.mark.parametrize("text", ["if family == 'gpt2':\n    pass", "from kzoo.models import gpt2", "BertModel()",
                                  "model.bert"])
def test_a_family_is_noticed(text):
    assert families_named(text) != []
    assert families_named('"""GPT2 for example."""\nx = "decoder"  # like BERT') == []

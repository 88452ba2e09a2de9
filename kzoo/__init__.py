"""kzoo: transformers for Keras 3, trained with `fit` and shipped as SavedModel, ONNX and TFLite."""
import importlib as _importlib
import os as _os

__version__ = "0.1.0"

if not _os.path.isdir(_os.path.join(_os.path.dirname(__file__), "export")):
    # In a checkout the export package lies beside this one; an installed kzoo holds it as a subpackage.
    __path__.append(_os.path.dirname(_os.path.dirname(_os.path.abspath(__file__))))

# Public name -> module that holds it. Resolved on first use (PEP 562), so that `import kzoo` loads no backend.
_FUNCTIONS = {
    "create": "kzoo.saving",
    "load": "kzoo.saving",
    "save": "kzoo.saving",
    "lengthen": "kzoo.lengthening",
    "list_models": "kzoo.registry",
    "load_tokenizer": "kzoo.tokenizers",
    "train_tokenizer": "kzoo.tokenizers",
    "train": "kzoo.training.trainer",
    "evaluate": "kzoo.evaluation",
    "explain": "kzoo.explanation",
    "open_bundle": "kzoo.export",
    "verify": "kzoo.export",
}
_MODULES = ("export", "layers", "models", "tasks", "tokenizers", "training")  # `kzoo.export.export(...)` exports

__all__ = ["__version__", *_FUNCTIONS, *_MODULES]


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module 'kzoo' has no attribute {name!r}")
    try:
        if name in _MODULES:
            return _importlib.import_module(f"kzoo.{name}")
        return getattr(_importlib.import_module(_FUNCTIONS[name]), name)
    except ModuleNotFoundError as error:
        from kzoo.errors import not_installed

        raise not_installed(error) from error


def __dir__():
    return sorted(__all__)

"""Bundles: a model as SavedModel, ONNX and TFLite, each verified, each opened as a session.

Most public names resolve on first use, so that running a bundle loads nothing that only writing one needs.
"""
import importlib as _importlib

# Eager, because it has the name of its module: imported later, the module would take the function's place.
from kzoo.export.verify import verify

_NAMES = {
    "export": "kzoo.export.exporter",
    "open_bundle": "kzoo.export.session",
    "read_bundle": "kzoo.export.artifact",
    "compare": "kzoo.export.verify",
    "Report": "kzoo.export.verify",
    "Session": "kzoo.export.session",
    "Target": "kzoo.export.target",
    "TARGETS": "kzoo.export.target",
    "get_target": "kzoo.export.target",
    "render_report": "kzoo.export.report",
}

__all__ = ["verify", *_NAMES]


def __getattr__(name):
    if name in _NAMES:
        return getattr(_importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)

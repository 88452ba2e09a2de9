"""Bundles: a model as SavedModel, ONNX and TFLite, each verified, each opened as a session.

Public names resolve on first use, so that running a bundle loads nothing that only writing one needs.
"""
import importlib as _importlib

_NAMES = {
    "export": "kzoo.export.exporter",
    "open_bundle": "kzoo.export.bundle",
    "read_bundle": "kzoo.export.artifact",
    "verify": "kzoo.export.verify",
    "compare": "kzoo.export.verify",
    "Report": "kzoo.export.verify",
    "Session": "kzoo.export.session",
    "Target": "kzoo.export.target",
    "TARGETS": "kzoo.export.target",
    "get_target": "kzoo.export.target",
    "render_report": "kzoo.export.report",
}

__all__ = list(_NAMES)


def __getattr__(name):
    if name in _NAMES:
        value = getattr(_importlib.import_module(_NAMES[name]), name)
        # The submodule that was just loaded may have the same name as the function and would otherwise stand before it.
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)

"""What goes wrong, said in one sentence, and which exit status it means.

Bad input raises the Python exception that fits (ValueError, TypeError, OSError, ImportError); the command line
turns those into exit status 2. Work that ran and whose check failed raises `CheckFailed`, exit status 1.
"""
import difflib

# Package -> the extra that brings it.
EXTRAS = {"keras": "train", "tensorflow": "train", "tensorflow_text": "train", "jax": "jax", "ai_edge_litert": "tflite",
          "onnx": "export", "onnx_ir": "export", "tf2onnx": "export", "onnxruntime_extensions": "text",
          "rouge_score": "evaluate", "sacrebleu": "evaluate", "seqeval": "evaluate", "sklearn": "evaluate"}


class CheckFailed(RuntimeError):
    """The work ran, and its check failed (verification, an evaluation threshold)."""


def unknown(kind, name, options):
    """The sentence for a name that is none of `options`, with the closest match.

    Args:
        kind: what the name should have been, for example "preset".
        name: what was received.
        options: iterable of the legal names.
    """
    spelled = _spelled(options)
    return f"{closest(kind, name, options)} Choose one of: {', '.join(spelled.values()) or 'there is none'}."


def closest(kind, name, options):
    """`unknown` without the list, where it would be too long to read."""
    spelled = _spelled(options)
    close = difflib.get_close_matches(str(name).lower(), spelled, n=1, cutoff=0.5)
    return f"Unknown {kind} {name!r}." + (f" Did you mean {spelled[close[0]]!r}?" if close else "")


def not_installed(error):
    """The ImportError that names the extra to install, for a package that is missing; other errors as they are.

    Args:
        error: an ImportError; the package stands in its `name`.
    """
    extra = EXTRAS.get((error.name or "").split(".")[0])
    if extra is None:
        return error
    return ImportError(f"This needs the package {error.name}, which is not installed. "
                       f"Install it with: pip install 'kzoo[{extra}]'.", name=error.name)


def _spelled(options):
    return {str(option).lower(): str(option) for option in sorted(options, key=str)}

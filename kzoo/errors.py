"""What goes wrong, said in one sentence, and which exit status it means.

Bad input raises the Python exception that fits (ValueError, TypeError, OSError, ImportError); the command line
turns those into exit status 2. Work that ran and whose check failed raises `CheckFailed`, exit status 1.
"""
import difflib


class CheckFailed(RuntimeError):
    """The work ran, and its check failed (verification, an evaluation threshold)."""


def unknown(kind, name, options):
    """The sentence for a name that is none of `options`, with the closest match.

    Args:
        kind: what the name should have been, for example "preset".
        name: what was received.
        options: iterable of the legal names.
    """
    options = sorted(str(option) for option in options)
    close = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"Unknown {kind} {name!r}.{hint} Choose one of: {', '.join(options)}."

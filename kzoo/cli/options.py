"""Kinds of option values, each checked where it is read.

Options that are not given are left out of the parsed arguments (`argparse.SUPPRESS`): the defaults live in the
functions that the commands call, and only there.
"""
import argparse
import pathlib

from kzoo.errors import unknown

ABSENT = argparse.SUPPRESS


def whole_number(minimum):
    """A converter to int, at least `minimum`."""
    def convert(text):
        try:
            value = int(text)
        except ValueError:
            value = None
        if value is None or value < minimum:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {minimum}. Received: {text!r}")
        return value
    return convert


def number(minimum=None, maximum=None):
    """A converter to a finite float between the two ends, both legal."""
    wanted = "must be a number" + (f" of at least {minimum:g}" if minimum is not None else "")
    wanted += (" and" if minimum is not None else "") + f" at most {maximum:g}" if maximum is not None else ""

    def convert(text):
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        too_small, too_large = minimum is not None and value < minimum, maximum is not None and value > maximum
        if value != value or abs(value) == float("inf") or too_small or too_large:
            raise argparse.ArgumentTypeError(f"{wanted}. Received: {text!r}")
        return value
    return convert


def comma_list(text):
    """`a,b` as ("a", "b"); a tuple because some callers keep it."""
    values = tuple(part.strip() for part in text.split(","))
    if not all(values):
        raise argparse.ArgumentTypeError(f"must be names separated by commas. Received: {text!r}")
    return values


def task(text):
    """The name of a task, checked without importing a backend."""
    from kzoo.registry import TASKS

    if text not in TASKS:
        raise argparse.ArgumentTypeError(unknown("task", text, TASKS))
    return text


def data_file(text):
    """The name of a file that exists: said at once, not after the seconds that a backend takes to start."""
    path = pathlib.Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder, not a data file")
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{text} does not exist")
    return text


def add_folder(parser, name, metavar, meaning, **options):
    """A positional argument that names a run, a checkpoint or a bundle."""
    parser.add_argument(name, type=_folder, metavar=metavar, help=meaning, **options)


def _folder(text):
    """The name of a folder that exists; what it must hold is for the reader to say."""
    path = pathlib.Path(text)
    if not path.is_dir():
        fault = "is a file, not a folder" if path.exists() else "does not exist"
        raise argparse.ArgumentTypeError(f"{text} {fault}. Name a run, a checkpoint folder or a bundle")
    return text


def assignment(text):
    """`NAME=VALUE` as a pair of strings."""
    name, equals, value = text.partition("=")
    if not (name.strip() and equals):
        raise argparse.ArgumentTypeError(f"must be written NAME=VALUE. Received: {text!r}")
    return name.strip(), value.strip()


def given(args, names):
    """The options among `names` that were on the command line, as keyword arguments."""
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def is_bundle(path):
    """Whether a folder is a bundle, and no run or checkpoint."""
    return (pathlib.Path(path) / "manifest.json").is_file()


def add_runtime(parser):
    parser.add_argument("--runtime", default=ABSENT, metavar="NAME",
                        help="of a bundle: keras, savedmodel, onnx or tflite")
    parser.add_argument("--variant", default=ABSENT, metavar="NAME", help="of a bundle; none is float32")


def add_json(parser):
    parser.add_argument("--json", action="store_true", help="print JSON")

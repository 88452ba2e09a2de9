"""`kzoo evaluate`: metrics of a run, a bundle or stored predictions on a data file, and thresholds on them."""
import argparse

from kzoo.cli.options import (
    ABSENT,
    add_folder,
    add_json,
    add_runtime,
    assignment,
    data_file,
    given,
    is_bundle,
    number,
    task,
    whole_number,
)
from kzoo.cli.output import print_fields, print_json
from kzoo.errors import CheckFailed, unknown

# Option -> how to read it and what it means. Which of them a task has is for `kzoo.evaluate` to say.
SETTINGS = {
    "tail": ({"type": number(0, 1), "metavar": "X"}, "look only at this share of the data, from its end"),
    "batch-size": ({"type": whole_number(1), "metavar": "N"}, "rows at a time"),
    "sequence-length": ({"type": whole_number(1), "metavar": "N"}, "tokens in a window"),
    "memory-length": ({"type": whole_number(1), "metavar": "N"}, "hidden states that a model with a memory remembers"),
    "columns": ({"metavar": "ROLE=COLUMN,..."}, "columns of the data by name or position from 1, for example "
                                                "text=sentence,label=2; + joins columns"),
    "skip-bad-rows": ({"action": "store_true"}, "leave out rows that do not fit, and say how many there were"),
    "whole-words": ({"action": "store_true"}, "of fill-mask: hide whole words"),
    "truncate": ({"action": "store_true"}, "cut texts that are longer than the model instead of refusing them"),
    "bpe-marks": ({"action": "store_true"}, "join pieces of words that are marked with @@ before scoring"),
    "num-beams": ({"type": whole_number(1), "metavar": "N"}, "beams of a beam search"),
    "no-repeat-ngram-size": ({"type": whole_number(0), "metavar": "N"}, "say no run of N tokens twice in an answer"),
    "length-penalty": ({"type": number(), "metavar": "X"}, "above 0: beams prefer longer answers"),
    "early-stopping": ({"action": "store_true"}, "end beams once as many answers are finished as there are beams"),
    "max-new-tokens": ({"type": whole_number(1), "metavar": "N"}, "longest answer that is generated"),
}


def add_commands(add):
    parser = add("evaluate", evaluate, "measure a run, a bundle or stored predictions on a data file")
    add_folder(parser, "path", "RUN_OR_BUNDLE", "a run, a checkpoint folder or a bundle; not with --predictions",
               nargs="?")
    parser.add_argument("--data", nargs="+", type=data_file, required=True, metavar="FILE",
                        help="the data to measure on; two parallel texts for translation")
    parser.add_argument("--predictions", type=data_file, metavar="FILE",
                        help="measure what lies in this file instead of a model: a JSON object that maps the ids of "
                             "questions to answers, or with --task a text or a label a line")
    parser.add_argument("--task", type=task, default=ABSENT, metavar="TASK", help="of the predictions in a text file")
    for name, (kind, meaning) in SETTINGS.items():
        parser.add_argument(f"--{name}", default=ABSENT, help=meaning, **kind)
    add_runtime(parser)
    for option, words in (("--at-most", "above"), ("--at-least", "below")):
        parser.add_argument(option, type=_threshold, action="append", default=[], metavar="METRIC=VALUE",
                            help=f"exit with status 1 if the metric is {words} this value; may be repeated")
    add_json(parser)


def evaluate(args):
    metrics = _predictions(args) if args.predictions else _model(args)
    if args.json:
        print_json(metrics)
    else:
        print_fields({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in metrics.items()})
    missed = [f"{name} is {_metric(metrics, name):.6g}, above {limit:g}"
              for name, limit in args.at_most if not _metric(metrics, name) <= limit]  # `not <=`: NaN misses too
    missed += [f"{name} is {_metric(metrics, name):.6g}, below {limit:g}"
               for name, limit in args.at_least if not _metric(metrics, name) >= limit]
    if missed:
        raise CheckFailed("; ".join(missed))


def _model(args):
    """Metrics of a model's own predictions."""
    import kzoo
    from kzoo.cli.start import start_backend

    if args.path is None:
        raise ValueError("Name a run, a checkpoint folder or a bundle, or give stored --predictions.")
    if hasattr(args, "task"):
        raise ValueError("--task is for --predictions; a model knows its own.")
    if not is_bundle(args.path):  # a bundle may need no backend, and the machine may have none
        start_backend()
    names = [name.replace("-", "_") for name in SETTINGS]
    return kzoo.evaluate(args.path, data=args.data, **given(args, [*names, "runtime", "variant"]))


def _predictions(args):
    """Metrics of what lies in a file."""
    from kzoo.evaluation import evaluate_predictions

    if args.path is not None:
        raise ValueError(f"--predictions are measured without a model; leave out {args.path}.")
    options = given(args, ["task", "columns", "bpe_marks"])
    for name in SETTINGS:
        if hasattr(args, name.replace("-", "_")) and name.replace("-", "_") not in options:
            raise ValueError(f"--{name} is for a model; --predictions are there already.")
    return evaluate_predictions(args.predictions, args.data, **options)


def _threshold(text):
    name, value = assignment(text)
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be METRIC=NUMBER. Received: {text!r}") from None


def _metric(metrics, name):
    if name not in metrics:
        raise ValueError(unknown("metric", name, metrics))
    return metrics[name]

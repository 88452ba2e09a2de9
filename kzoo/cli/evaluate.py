"""`kzoo evaluate`: metrics of a run or a bundle on a data file, and thresholds on them."""
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
    whole_number,
)
from kzoo.cli.output import print_fields, print_json
from kzoo.errors import CheckFailed, unknown


def add_commands(add):
    parser = add("evaluate", evaluate, "measure a run or a bundle on a data file")
    add_folder(parser, "path", "RUN_OR_BUNDLE", "a run, a checkpoint folder or a bundle")
    parser.add_argument("--data", nargs="+", type=data_file, required=True, metavar="FILE",
                        help="the data to measure on")
    parser.add_argument("--tail", type=number(0, 1), default=ABSENT, metavar="X",
                        help="look only at this share of the data, from its end")
    parser.add_argument("--batch-size", type=whole_number(1), default=ABSENT, metavar="N", help="rows at a time")
    parser.add_argument("--sequence-length", type=whole_number(1), default=ABSENT, metavar="N",
                        help="tokens in a window")
    add_runtime(parser)
    for option, words in (("--at-most", "above"), ("--at-least", "below")):
        parser.add_argument(option, type=_threshold, action="append", default=[], metavar="METRIC=VALUE",
                            help=f"exit with status 1 if the metric is {words} this value; may be repeated")
    add_json(parser)


def evaluate(args):
    import kzoo
    from kzoo.cli.start import start_backend

    if not is_bundle(args.path):  # a bundle may need no backend, and the machine may have none
        start_backend()
    options = given(args, ["tail", "batch_size", "sequence_length", "runtime", "variant"])
    metrics = kzoo.evaluate(args.path, data=args.data, **options)
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

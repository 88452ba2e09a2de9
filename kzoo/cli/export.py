"""`kzoo export` and `kzoo verify`: a run becomes a bundle, and a bundle proves itself."""
import argparse

from kzoo.cli.options import ABSENT, add_folder, add_json, comma_list, data_file, given, number, task, whole_number
from kzoo.cli.output import print_json, print_table, progress
from kzoo.errors import CheckFailed, unknown


def add_commands(add):
    parser = add("export", export, "write a run or checkpoint as SavedModel, ONNX and TFLite, each verified")
    add_folder(parser, "path", "RUN_OR_CHECKPOINT", "a run or a Hugging Face checkpoint folder")
    parser.add_argument("bundle", metavar="BUNDLE", help="folder to write")
    parser.add_argument("--formats", type=_formats, default=ABSENT, metavar="NAME,...",
                        help="some of savedmodel,onnx,tflite")
    parser.add_argument("--quantize", type=comma_list, default=ABSENT, metavar="NAME,...",
                        help="variants to write: some of none, which is float32, fp16, int8, int4, int8_full")
    parser.add_argument("--text", action="store_true", default=ABSENT,
                        help="also write files that take strings, with the tokenizer inside where the format has "
                             "operators for it")
    parser.add_argument("--eval-data", nargs="+", type=data_file, default=ABSENT, metavar="FILE",
                        help="measure every quantised file on this data, as `kzoo evaluate` does, beside the model")
    parser.add_argument("--eval-limit", type=number(), default=ABSENT, metavar="X",
                        help="most that its metric may be worse; default 1 point (0.01 of accuracy), 0.02 for 2 %% of "
                             "perplexity")
    parser.add_argument("--calibration-data", nargs="+", type=data_file, default=ABSENT, metavar="FILE",
                        help="for int8_full: data like that which the model will read, to take ranges of numbers from")
    parser.add_argument("--task", type=task, default=None, metavar="TASK", help="the head to export")
    parser.add_argument("--layout", type=_layouts, action="extend", default=ABSENT, metavar="NAME,...",
                        help="folders for model servers to add: some of triton,tfserving,kserve")
    parser.add_argument("--portable", action="store_true", default=ABSENT,
                        help="keep ONNX files to the standard's operators, for runtimes that have no others")
    parser.add_argument("--static-length", type=whole_number(2), default=ABSENT, metavar="N",
                        help="tokens that TFLite files of models that generate have room for, prompt included; default "
                             "all that the model reads; less room is faster")
    parser.add_argument("--overwrite", action="store_true", default=ABSENT, help="replace BUNDLE if it exists")
    parser.add_argument("--keep-failed", action="store_true", default=ABSENT,
                        help="keep artifacts that fail verification; the status is still 1")
    parser = add("verify", verify, "open every artifact of a bundle in its runtime and compare it with the model")
    add_folder(parser, "bundle", "BUNDLE", "the bundle to check")
    add_json(parser)


def _formats(text):
    from kzoo.export.target import TARGETS

    for name in comma_list(text):
        if name not in TARGETS:
            raise argparse.ArgumentTypeError(unknown("format", name, TARGETS))
    return comma_list(text)


def _layouts(text):
    from kzoo.export.layouts import LAYOUTS

    for name in comma_list(text):
        if name not in LAYOUTS:
            raise argparse.ArgumentTypeError(unknown("layout", name, LAYOUTS))
    return comma_list(text)


def export(args):
    import kzoo
    from kzoo.cli.start import start_backend
    from kzoo.export import export as write_bundle
    from kzoo.files import check_target

    check_target(args.bundle, getattr(args, "overwrite", False))  # before minutes of loading and converting
    start_backend()
    model = kzoo.load(args.path, task=args.task)
    names = ["formats", "quantize", "text", "overwrite", "keep_failed", "portable", "static_length", "eval_data",
             "eval_limit", "calibration_data", "layout"]
    write_bundle(model, args.bundle, **given(args, names))
    print(args.bundle)


def verify(args):
    from kzoo.export import verify as verify_bundle

    report = verify_bundle(args.bundle)
    if args.json:
        print_json({"passed": report.passed, "rows": report.rows})
    elif report.rows:
        names = list(report.rows[0])
        print_table(names, [[row.get(name) for name in names] for row in report.rows])
    unchecked = list(dict.fromkeys(row["artifact"] for row in report.rows if row["passed"] is None))
    if unchecked:
        progress(f"Not checked here: {', '.join(unchecked)}. Their notes say why.")
    if not report.passed:
        raise CheckFailed(f"{args.bundle} failed verification.")

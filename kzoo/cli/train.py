"""`kzoo train`: options become the keyword arguments of `kzoo.train`."""
from kzoo.cli.options import ABSENT, assignment, data_file, given, number, task, whole_number
from kzoo.cli.output import print_fields
from kzoo.training.options import EPOCH, JIT, KEEP, PRECISIONS, SCHEDULES, SIDES, TrainOptions


def _interval(text):
    return text if text == EPOCH else whole_number(1)(text)


# Option -> how to read it and what it means. Left out on the command line, left out of the call.
SETTINGS = {
    "tokenizer": ({"metavar": "KIND|PATH"}, "character, byte-bpe, wordpiece or sentencepiece (trained on the data), "
                                            "or a folder or file to load"),
    "vocabulary-size": ({"type": whole_number(2), "metavar": "N"}, "size of a vocabulary trained on the data"),
    "columns": ({"metavar": "ROLE=COLUMN,..."}, "where rows have text and label, or source and target: header names or "
                                                "positions from 1, as in text=sentence,label=2; + joins columns"),
    "skip-bad-rows": ({"action": "store_true"}, "leave out rows that cannot be used, and say how many and which"),
    "sequence-length": ({"type": whole_number(1), "metavar": "N"}, "tokens in a training window, or the most in a row"),
    "truncate": ({"nargs": "?", "const": SIDES[0], "choices": SIDES}, "cut longer texts at their end (or start) "
                                                                      "instead of refusing them"),
    "steps": ({"type": whole_number(1), "metavar": "N"}, "optimizer steps"),
    "epochs": ({"type": whole_number(1), "metavar": "N"}, "passes over the data, instead of --steps"),
    "batch-size": ({"type": whole_number(1), "metavar": "N"}, "windows or rows in a batch"),
    "batch-tokens": ({"type": whole_number(1), "metavar": "N"}, "tokens in a batch of rows, instead of --batch-size"),
    "length-buckets": ({"type": whole_number(1), "metavar": "N"}, "most shapes that batches of rows are filled up to"),
    "sort-by-length": ({"action": "store_true"}, "batches of rows with nearly the same length, as fairseq makes them"),
    "gradient-accumulation": ({"type": whole_number(1), "metavar": "N"}, "batches whose gradients make one step"),
    "learning-rate": ({"type": number(0), "metavar": "X"}, "peak learning rate"),
    "min-learning-rate": ({"type": number(0), "metavar": "X"}, "learning rate at the end of the schedule"),
    "initial-learning-rate": ({"type": number(0), "metavar": "X"}, "learning rate of the first step of the warm-up"),
    "warmup-steps": ({"type": whole_number(0), "metavar": "N"}, "steps over which the rate rises"),
    "schedule": ({"choices": SCHEDULES}, "how the rate falls after warm-up"),
    "weight-decay": ({"type": number(0), "metavar": "X"}, "decoupled decay of the matrices"),
    "beta-1": ({"type": number(0, 1), "metavar": "X"}, "AdamW's decay of the mean gradient"),
    "beta-2": ({"type": number(0, 1), "metavar": "X"}, "AdamW's decay of the squared gradient"),
    "adam-epsilon": ({"type": number(0), "metavar": "X"}, "AdamW's epsilon"),
    "clip-norm": ({"type": number(0), "metavar": "X"}, "largest norm of all gradients together"),
    "label-smoothing": ({"type": number(0, 1), "metavar": "X"}, "probability moved from the target to all classes"),
    "class-weights": ({"metavar": "balanced|LABEL=X,..."}, "how much examples of each label count"),
    "whole-words": ({"action": "store_true"}, "mask whole words (fill-mask)"),
    "mixed-precision": ({"choices": PRECISIONS}, "compute in half precision, keep float32 weights"),
    "jit": ({"choices": JIT}, "compile the step with XLA; auto decides by device and says so"),
    "interval": ({"type": _interval, "metavar": "N|epoch"}, "steps between checkpoints, each with a validation"),
    "validation-tokens": ({"type": whole_number(1), "metavar": "N"}, "most tokens looked at in such a validation"),
    "keep": ({"choices": KEEP}, "end with the weights of the last checkpoint, or of the best by validation"),
    "average-checkpoints": ({"type": whole_number(0), "metavar": "N"}, "end with the mean of the last N checkpoints"),
    "patience": ({"type": whole_number(1), "metavar": "N"}, "stop when N validations in a row were no better"),
    "seed": ({"type": whole_number(0), "metavar": "N"}, "seed of weights, shuffling and dropout"),
    "deterministic": ({"action": "store_true"}, "the same bits on every run of one machine (slower)"),
    "resume": ({"action": "store_true"}, "go on from the last checkpoint in RUN"),
    "overwrite": ({"action": "store_true"}, "replace RUN if it exists"),
    "logdir": ({"metavar": "DIR"}, "write TensorBoard logs here"),
}


def add_commands(add):
    parser = add("train", train, "train a preset, or go on with a run or checkpoint, on your own data")
    parser.add_argument("model", metavar="MODEL", help="a preset (see `kzoo list`), a run or a checkpoint folder")
    parser.add_argument("--task", type=task, required=True, metavar="TASK", help="what the model shall do")
    parser.add_argument("--data", nargs="+", type=data_file, required=True, metavar="FILE",
                        help="training data: text, tables, tagged words or SQuAD's JSON, by the task; two parallel "
                             "texts for translation")
    held_out = parser.add_mutually_exclusive_group()
    held_out.add_argument("--valid", nargs="+", type=data_file, default=ABSENT, metavar="FILE", help="validation data")
    held_out.add_argument("--validation-split", type=number(0, 1), default=ABSENT, metavar="X",
                          help="share of the data held out for validation")
    parser.add_argument("--out", required=True, metavar="RUN", help="folder of the run")
    for name, (kind, meaning) in SETTINGS.items():
        parser.add_argument(f"--{name}", default=ABSENT, help=meaning, **kind)
    parser.add_argument("--set", dest="overrides", type=assignment, action="extend", nargs="+", default=[],
                        metavar="FIELD=VALUE", help="change fields of the model's config; may be repeated")


def train(args):
    import kzoo
    from kzoo.cli.start import start_backend

    TrainOptions(**given(args, TrainOptions.field_names()))  # refuses what does not fit before the backend starts
    options = given(args, [name.replace("-", "_") for name in ("valid", "validation-split", *SETTINGS)])
    overrides = dict(args.overrides)
    for name in overrides:
        if [field for field, _ in args.overrides].count(name) > 1:
            raise ValueError(f"--set names {name} twice. Give each field one value.")
    start_backend()
    run = kzoo.train(args.model, task=args.task, data=args.data, out=args.out, overrides=overrides, **options)
    print_fields({"run": run.folder, **results(run.results)})


def results(values, prefix=""):
    """The numbers of a run as one flat dict of texts: {"valid": {"loss": 1.5}} gives {"valid loss": "1.5"}."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= results(value, f"{prefix}{name} ")
        elif isinstance(value, (int, float, str)):
            flat[f"{prefix}{name}"] = f"{value:.6g}" if isinstance(value, float) else str(value)
    return flat

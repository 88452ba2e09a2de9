"""SCAN's simple split: commands to sequences of actions, with `kzoo train`."""
import gzip
import sys

import bench
import recipe
import word_tokenizer

TITLE = "SCAN, simple split: exact matches on the test set"
DATA = "scan"
FILES = ("tasks_train_simple.txt.gz", "tasks_test_simple.txt.gz")
HELD_OUT = 0.05  # of the training commands, for validation
OPTIONS = {"steps": 4000, "batch-size": 256, "learning-rate": 1e-3, "schedule": "cosine", "warmup-steps": 200,
           "min-learning-rate": 0, "weight-decay": 0, "beta-2": 0.98, "interval": 500, "validation-split": HELD_OUT}
FIELDS = {"num_layers": 3, "num_heads": 8, "hidden_dim": 128, "intermediate_dim": 256, "dropout": 0.1,
          "max_sequence_length": 64}
TOY = {"steps": 4, "interval": 2, "batch-size": 4, "warmup-steps": 1, "length-buckets": 1}
TEXT = ("3 + 3 layers, width 128, 8 heads, 256 features inside, dropout 0.1, a token a word; Adam, 0.001, batch 256, "
        "4,000 steps. Actions are generated greedily; one counts if every action is right. (Lake and Baroni 2018, "
        "experiment 1, publish 99.8 % for the best recurrent network.)")


def pairs(path, most=None):
    """(command, actions) of every line `IN: ... OUT: ...`."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()[:most]
    return [tuple(part.strip() for part in line.removeprefix("IN:").split("OUT:")) for line in lines]


def write_table(path, rows):
    path.write_text("".join(f"{source}\t{target}\n" for source, target in rows), encoding="utf-8")
    return path


def main():
    parser = bench.options(TITLE, data=DATA)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    args = parser.parse_args()
    folder, started = bench.need_data(args, *FILES), bench.machine.describe()
    options, fields = ({**OPTIONS, **TOY}, {**FIELDS, **recipe.TOY_FIELDS}) if args.toy else (OPTIONS, FIELDS)
    work = recipe.work("scan", args)
    rows = [pairs(folder / name, 40 if args.toy else None) for name in FILES]
    train_file, test_file = (write_table(work / f"{name}.tsv", each)
                             for name, each in zip(("train", "test"), rows, strict=True))
    tokenizer = word_tokenizer.write(work / "tokenizer", [text for pair in rows[0] for text in pair])
    run = recipe.train("transformer-tiny", "translation", train_file, work / recipe.RUN,
                       {**options, "tokenizer": tokenizer, "seed": args.seed}, fields, args.resume)
    found = recipe.evaluate(work / recipe.RUN, test_file, max_new_tokens=5 if args.toy else 52)
    table = [bench.rows.Row("validation loss", [run["valid"]["loss"]], "nats a token"),
             *recipe.rows_of_runs(run),
             bench.rows.Row("exact matches", [found["exact_match"]], "%", ">= 99.5", f"{found['texts']:,} commands")]
    status = bench.finish(args, "scan", TITLE, TEXT, table, bench.own_versions("keras", "sacrebleu"), started)
    print(f"{found['exact_match']:.2f}")
    return status


if __name__ == "__main__":
    sys.exit(main())

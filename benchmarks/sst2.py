"""A small BERT, trained from random weights on the 6,920 sentences of SST-2 with `kzoo train`."""
import statistics
import sys

import bench
import recipe

TITLE = "SST-2 sentences, from random weights: test accuracy"
DATA = "sst2"
FILES = ("train.tsv", "dev.tsv", "test.tsv")
OPTIONS = {"tokenizer": "wordpiece", "vocabulary-size": 6000, "columns": "text=1,label=2", "epochs": 12,
           "batch-size": 32, "learning-rate": 5e-4, "schedule": "linear", "warmup-steps": 200, "weight-decay": 0.1,
           "interval": "epoch", "keep": "best", "truncate": "end"}
FIELDS = {"num_layers": 2, "num_heads": 4, "hidden_dim": 128, "intermediate_dim": 512, "max_sequence_length": 64,
          "dropout": 0.3, "attention_dropout": 0.1}
TOY = {"epochs": 1, "vocabulary-size": 300, "warmup-steps": 0, "length-buckets": 1}
TEXT = ("BERT with 2 layers, width 128 and dropout 0.3, no pretraining, its WordPiece vocabulary of 6,000 learnt from "
        "the training sentences; batch 32, 12 epochs, the epoch with the best validation accuracy is kept. Measured "
        "once on the 1,821 test sentences, as `kzoo evaluate` does. For comparison: pretrained models reach 90 % and "
        "more, a bag of words about 80 %.")


def main():
    parser = bench.options(TITLE, data=DATA)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    args = parser.parse_args()
    folder, started = bench.need_data(args, *FILES), bench.machine.describe()
    train_file, valid, test = (folder / name for name in FILES)
    options, fields = ({**OPTIONS, **TOY}, {**FIELDS, **recipe.TOY_FIELDS}) if args.toy else (OPTIONS, FIELDS)
    work, runs, found = recipe.work("sst2", args), [], []
    for seed in args.seeds:
        out = work / f"seed-{seed}"
        runs.append(recipe.train("bert-tiny", "text-classification", train_file, out,
                                 {**options, "valid": valid, "seed": seed}, fields))
        found.append(recipe.evaluate(out, test, columns=OPTIONS["columns"], truncate=True))
    table = [*(bench.rows.Row(f"test accuracy, seed {seed}", [each["accuracy"]])
               for seed, each in zip(args.seeds, found, strict=True)),
             bench.rows.Row("validation accuracy, best epoch", [run["valid"]["accuracy"] for run in runs]),
             bench.rows.Row("test macro F1", [each["macro_f1"] for each in found]),
             *recipe.rows_of_runs(runs[0]),
             bench.rows.Row("test accuracy, mean", [statistics.mean(each["accuracy"] for each in found)],
                            note=f"{found[0]['texts']:,} sentences")]
    status = bench.finish(args, "sst2", TITLE, TEXT, table, bench.own_versions("keras", "scikit-learn"), started)
    print(f"{table[-1].median:.4f}")
    return status


if __name__ == "__main__":
    sys.exit(main())

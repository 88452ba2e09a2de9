"""Spelling to sounds: one language of SIGMORPHON 2020's first task, with `kzoo train`."""
import csv
import sys

import bench
import recipe
import word_tokenizer

TITLE = "Grapheme to phoneme, SIGMORPHON 2020: word error rate"
DATA = "sigmorphon2020-g2p"
SPLITS = ("train", "dev", "test")
OPTIONS = {"steps": 5000, "batch-size": 256, "learning-rate": 1e-3, "schedule": "inverse-sqrt", "warmup-steps": 1000,
           "label-smoothing": 0.1, "weight-decay": 0, "beta-2": 0.98, "clip-norm": 1, "interval": 250, "keep": "best"}
FIELDS = {"num_layers": 4, "num_heads": 4, "hidden_dim": 128, "intermediate_dim": 512, "dropout": 0.3,
          "norm_placement": "pre", "max_sequence_length": 64}
TOY = {"steps": 4, "interval": 2, "batch-size": 4, "warmup-steps": 1, "length-buckets": 1}
TEXT = ("{language}: 3,600 words to train on, 450 to validate on, 450 to test on. 4 + 4 pre-norm layers, width 128, "
        "512 features inside, 4 heads, dropout 0.3, label smoothing 0.1, batch 256, Adam, 0.001 after 1,000 steps and "
        "falling with the inverse square root, at most 5,000 steps, the weights with the best validation loss; beam 5. "
        "A word counts if every phone is right. The shared task's Transformer averages 17.5 % over 15 languages.")


def write_table(path, source):
    """`word<TAB>p h o n e s` with the word's letters parted by blanks, so that letters and phones are tokens alike."""
    with open(source, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    path.write_text("".join(f"{' '.join(word)}\t{phones}\n" for word, phones in rows), encoding="utf-8")
    return [text for word, phones in rows for text in (" ".join(word), phones)]


def main():
    parser = bench.options(TITLE, data=DATA)
    parser.add_argument("--language", default="fre", metavar="NAME", help="fre, gre, hun or kor; default fre")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    args = parser.parse_args()
    names = [f"{split}/{args.language}_{split}.tsv" for split in SPLITS]
    folder, started = bench.need_data(args, *names), bench.machine.describe()
    options, fields = ({**OPTIONS, **TOY}, {**FIELDS, **recipe.TOY_FIELDS}) if args.toy else (OPTIONS, FIELDS)
    work = recipe.work(f"g2p-{args.language}", args)
    files = [work / f"{split}.tsv" for split in SPLITS]
    texts = [write_table(path, folder / name) for path, name in zip(files, names, strict=True)]
    tokenizer = word_tokenizer.write(work / "tokenizer", texts[0])
    run = recipe.train("transformer-tiny", "translation", files[0], work / recipe.RUN,
                       {**options, "valid": files[1], "tokenizer": tokenizer, "seed": args.seed}, fields, args.resume)
    errors = {}
    for split, path in zip(SPLITS[1:], files[1:], strict=True):
        found = recipe.evaluate(work / recipe.RUN, path, num_beams=5, max_new_tokens=5 if args.toy else 40)
        errors[split] = 100 - found["exact_match"]
    table = [bench.rows.Row("word error rate, validation", [errors["dev"]], "%"), *recipe.rows_of_runs(run),
             bench.rows.Row("word error rate, test", [errors["test"]], "%", note=f"{found['texts']:,} words")]
    status = bench.finish(args, "g2p", TITLE, TEXT.format(language=args.language), table,
                          bench.own_versions("keras", "sacrebleu"), started)
    print(f"{errors['test']:.2f}")
    return status


if __name__ == "__main__":
    sys.exit(main())

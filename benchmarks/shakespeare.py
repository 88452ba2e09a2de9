"""Train nanoGPT's character model for CPUs on tiny Shakespeare with `kzoo train`, and print the validation loss."""
import sys

import bench
import recipe

TITLE = "Tiny Shakespeare, nanoGPT's setting for CPUs: validation loss"
BAR = "<= 1.92"  # nats a character; nanoGPT publishes 1.88, over 20 random batches
OPTIONS = {
    "tokenizer": "character", "steps": 2000, "batch-size": 12, "learning-rate": 1e-3, "min-learning-rate": 1e-4,
    "warmup-steps": 100, "schedule": "cosine", "beta-1": 0.9, "beta-2": 0.99, "weight-decay": 0.1, "clip-norm": 1.0,
    "validation-split": 0.1}
FIELDS = {"num_layers": 4, "num_heads": 4, "hidden_dim": 128, "max_sequence_length": 64, "dropout": 0,
          "use_bias": False}
TOY = {"steps": 30, "warmup-steps": 3}
TEXT = ("4 layers, 4 heads, width 128, block 64, batch 12, 2,000 steps, trained by `kzoo train`; the loss is the mean "
        "over the whole last tenth of the text, in windows of 64 that do not overlap, as `kzoo evaluate` measures it.")


def train(data, seed, args):
    """What training.json and `kzoo evaluate` say of one seed."""
    out = recipe.work("shakespeare", args) / recipe.RUN
    options = {**OPTIONS, **(TOY if args.toy else {}), "seed": seed}
    return (recipe.train("gpt2-nano", "text-generation", data, out, options, FIELDS),
            recipe.evaluate(out, data, tail=OPTIONS["validation-split"]))


def main():
    parser = bench.options(TITLE, data="tinyshakespeare/input.txt")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    args = parser.parse_args()
    data, started = bench.need_data(args), bench.machine.describe()
    runs = [train(data, seed, args) for seed in args.seeds]
    losses = [evaluated["loss"] for _, evaluated in runs]
    table = [
        *(bench.rows.Row(f"validation loss, seed {seed}", [loss], "nats", BAR)
          for seed, loss in zip(args.seeds, losses, strict=True)),
        bench.rows.Row("training loss, last 250 steps", [trained["loss"] for trained, _ in runs], "nats"),
        bench.rows.Row("seconds of a run, validations and checkpoints included",
                       [trained["seconds"] for trained, _ in runs], "s"),
        bench.rows.Row("validation loss", losses, "nats", BAR, f"over {runs[0][1]['tokens']:,} characters")]
    status = bench.finish(args, "shakespeare", TITLE, TEXT, table, bench.own_versions("keras", "tensorflow"), started)
    print(f"{table[-1].median:.4f}")
    return status


if __name__ == "__main__":
    sys.exit(main())

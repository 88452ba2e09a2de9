"""What kzoo's dropout and loss are worth: a training step of Transformer-Tiny with them, and with Keras' own."""
import json
import sys

import bench

TITLE = "A training step with dropout and a vocabulary: kzoo's parts and Keras' own"
SPEC = {"shapes": [[204, 20]], "steps": 3, "fields": {}}
TOY = {"shapes": [[3, 5]], "steps": 1, "fields": {"num_layers": 1, "num_heads": 2, "hidden_dim": 8,
                                                           "intermediate_dim": 8, "vocabulary_size": 50}}
VARIANTS = {"kzoo's dropout and loss": (), "dropout of Keras": ("dropout",), "loss of Keras": ("loss",),
            "dropout and loss of Keras": ("dropout", "loss")}
TEXT = ("Transformer-Tiny (vocabulary 9,712, dropout 0.3, label smoothing 0.1), 204 pairs of 20 tokens, "
        "AdamW, float32, {threads} threads, TensorFlow. Keras draws dropout's masks by Philox, and leaves the gradient "
        "of its loss to TensorFlow; all else is the same. A run is {steps} steps, compiled and warm, of each in turn; "
        "ratios are taken round by round.")


def main():
    args = bench.options(TITLE, rounds=7).parse_args()
    started, spec = bench.machine.describe(), TOY if args.toy else SPEC
    contenders, table, ratios = [], [], []
    for jit in (True, False):
        here = [bench.Contender(f"{name}, {'with' if jit else 'without'} XLA", sys.executable, "fit_translator.py",
                                json.dumps({**spec, "keras": parts, "jit": jit}), threads=args.threads)
                for name, parts in VARIANTS.items()]
        bench.interleave(here, args.rounds)
        rows = [each.row("seconds", "s") for each in here]
        table += rows
        ratios += [bench.rows.ratio(f"{row.name} / {rows[0].name}", row, rows[0]) for row in rows[1:]]
        contenders += here
    text = TEXT.format(threads=args.threads, **spec)
    return bench.finish(args, "training_step", TITLE, text, table + ratios, bench.versions_of(contenders), started)


if __name__ == "__main__":
    sys.exit(main())

"""Training speed of a small GPT-2: kzoo against KerasHub and PyTorch, in turns."""
import json
import sys

import bench

TITLE = "Training a small GPT-2: tokens a second"
SIZES = {"layers": 4, "heads": 4, "width": 128, "block": 64, "batch": 12, "vocabulary": 65, "steps": 50}
TOY = {**SIZES, "layers": 1, "heads": 2, "width": 8, "block": 16, "steps": 37}
BAR = ">= 1.0"
TEXT = ("4 layers, 4 heads, width 128, block 64, batch 12, vocabulary 65, float32, {threads} threads. A run is {steps} "
        "steps, warm, of each contender in turn: short ones, because a machine's speed drifts within seconds and a "
        "ratio is only as good as its two runs are near each other. `model.fit` of kzoo and of KerasHub get the same "
        "arrays, AdamW and loss; `kzoo.train` also clips gradients, follows a schedule, shows progress, reads a file "
        "and has Keras run several steps in one call, which `model.fit` here does not. Ratios are taken round by "
        "round.")


def main():
    args = bench.options(TITLE, rounds=25, peers=True, keras_hub=True).parse_args()
    started, sizes = bench.machine.describe(), TOY if args.toy else SIZES
    words, own = json.dumps(sizes), {"threads": args.threads}
    fit = bench.Contender("kzoo, `model.fit` with XLA", sys.executable, "fit_kzoo.py", "xla", words, **own)
    plain = bench.Contender("kzoo, `model.fit` without XLA", sys.executable, "fit_kzoo.py", "plain", words, **own)
    train = bench.Contender("kzoo, `kzoo.train` with XLA", sys.executable, "fit_kzoo_train.py", words, **own)
    peer = {"threads": args.threads, "optional": True}
    hub = bench.Contender("KerasHub with XLA", args.keras_hub, "fit_keras_hub.py", "xla", words, **peer)
    hub_plain = bench.Contender("KerasHub without XLA", args.keras_hub, "fit_keras_hub.py", "plain", words, **peer)
    compiled = bench.Contender("torch.compile", args.peers, "fit_torch.py", "compile", words, args.threads, **peer)
    eager = bench.Contender("torch eager", args.peers, "fit_torch.py", "eager", words, args.threads, **peer)
    contenders = [compiled, fit, hub, train, plain, hub_plain, eager]
    bench.interleave(contenders, args.rounds)
    measured = {each: each.row("tokens_per_second", "tokens/s") for each in contenders}
    table = list(measured.values())
    for ours in (fit, train):
        for theirs in (hub, compiled, hub_plain, eager):
            table.append(bench.rows.ratio(f"{ours.name} / {theirs.name}", measured[ours], measured[theirs],
                                          BAR if theirs in (hub, compiled) else None))
    text = TEXT.format(threads=args.threads, steps=sizes["steps"])
    return bench.finish(args, "fit_throughput", TITLE, text, table, bench.versions_of(contenders), started)


if __name__ == "__main__":
    sys.exit(main())

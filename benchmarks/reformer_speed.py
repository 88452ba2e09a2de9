"""A forward pass of a Reformer over long texts, against its class in transformers."""
import json
import sys

import bench

TITLE = "Reformer, 6 layers of width 256, 2 rounds: seconds to read a text"
LENGTHS, TOY_LENGTHS = (4096, 16384), (256, 512)
SIZES = {"layers": 6, "heads": 4, "head_dim": 64, "width": 256, "inner": 512, "rounds": 2, "buckets": [32, 16],
         "chunk": 64, "axes": [64, 256], "dims": [64, 192], "vocabulary": 320}
BAR = ">= 1.2"
TEXT = ("Local and LSH layers in turn, causal, one text, random weights, logits of every token, float32, {threads} "
        "threads. kzoo's model is compiled with XLA; transformers has no compiled form of this class. A run is one "
        "text, warm, of each contender in turn; ratios are taken round by round.")


def main():
    args = bench.options(TITLE, rounds=7, peers=True).parse_args()
    started = bench.machine.describe()
    table, ratios, contenders = [], [], []
    for length in TOY_LENGTHS if args.toy else LENGTHS:
        spec = json.dumps({**SIZES, "length": length, "threads": args.threads})
        ours = bench.Contender(f"kzoo, {length:,} tokens", sys.executable, "read_reformer_kzoo.py", spec,
                               threads=args.threads)
        theirs = bench.Contender(f"transformers, {length:,} tokens", args.peers, "read_reformer_torch.py", spec,
                                 threads=args.threads, optional=True)
        bench.interleave([ours, theirs], args.rounds)
        rows = [each.row("seconds", "s") for each in (ours, theirs)]
        table += rows
        ratios.append(bench.rows.ratio(f"transformers / kzoo, {length:,} tokens", *reversed(rows), BAR))
        contenders += [ours, theirs]
    return bench.finish(args, "reformer_speed", TITLE, TEXT.format(threads=args.threads), table + ratios,
                        bench.versions_of(contenders), started)


if __name__ == "__main__":
    sys.exit(main())

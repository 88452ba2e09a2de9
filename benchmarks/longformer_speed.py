"""Reading long texts with a Longformer of base size, against transformers' class and torch's fused full attention."""
import json
import sys

import bench

TITLE = "Reading one long text, Longformer-base's shape: seconds"
LENGTHS = (1024, 2048, 4096)
PEERS = {"longformer": "transformers LongformerModel", "full": "transformers BertModel, full attention, torch's sdpa"}
BARS = {("longformer", 4096): "<= 0.77", ("full", 4096): "<= 1"}  # the first is 1.3 times as fast
TEXT = ("Random weights, one row without padding, its first token global, {threads} threads, float32. kzoo runs its "
        "TensorFlow graph without XLA. BERT's shape is the same 12 layers of 768, every token seeing all. A run is one "
        "call at each length, warm, of each contender in turn; ratios are taken round by round, and where that to full "
        "attention falls below 1, windows pay.")


def main():
    args = bench.options(TITLE, rounds=5, peers=True).parse_args()
    started = bench.machine.describe()
    lengths = (32, 64) if args.toy else LENGTHS
    spec = {"lengths": lengths, "toy": args.toy, "threads": args.threads}
    ours = bench.Contender("kzoo", sys.executable, "read_long_kzoo.py", json.dumps(spec), threads=args.threads)
    peers = {kind: bench.Contender(name, args.peers, "read_long_peers.py", json.dumps({**spec, "kind": kind}),
                                   threads=args.threads, optional=True) for kind, name in PEERS.items()}
    bench.interleave([ours, *peers.values()], args.rounds)
    table, ratios = [], []
    for length in lengths:
        mine = named(ours, length)
        table.append(mine)
        for kind, peer in peers.items():
            theirs = named(peer, length)
            table.append(theirs)
            ratios.append(bench.rows.ratio(f"kzoo / {peer.name}, {length:,} tokens", mine, theirs,
                                           BARS.get((kind, length))))
    text = TEXT.format(threads=args.threads)
    return bench.finish(args, "longformer_speed", TITLE, text, table + ratios,
                        bench.versions_of([ours, *peers.values()]), started)


def named(contender, length):
    row = contender.row(str(length), "s")
    return bench.rows.Row(f"{contender.name}, {length:,} tokens", row.values, row.unit, note=row.note)


if __name__ == "__main__":
    sys.exit(main())

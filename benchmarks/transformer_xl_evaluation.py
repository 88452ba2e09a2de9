"""Evaluating Transformer-XL with its memory, against asking for the whole window of every token."""
import json
import sys

import bench

TITLE = "Evaluating Transformer-XL with a memory: milliseconds a token"
# The paper's 12-layer model of enwik8, and one of its attention lengths.
SPEC = {"window": 800, "segment": 128, "calls": 3, "fields": {
    "vocabulary_size": 204, "num_layers": 12, "num_heads": 8, "head_dim": 64, "hidden_dim": 512,
    "intermediate_dim": 2048}}
TOY = {"window": 24, "segment": 8, "calls": 1, "fields": {
    "vocabulary_size": 20, "num_layers": 1, "num_heads": 2, "head_dim": 4, "hidden_dim": 8, "intermediate_dim": 9}}
BAR = ">= 20"
TEXT = ("{layers} layers, width {width}, {parameters:,} parameters, random weights, one text, {threads} threads. With "
        "a memory of {window} the text is read in segments of {segment} tokens; without, each token's {window} "
        "predecessors are read anew and the last logits kept, in a model that is the same in all else. A run is "
        "{calls} segments and {calls} windows, warm, in turn; the ratio is taken round by round. (Dai et al. 2019, "
        "table 9: 363 times as fast at this length, on a GPU.)")


def main():
    args = bench.options(TITLE, rounds=7).parse_args()
    started, spec = bench.machine.describe(), TOY if args.toy else SPEC
    contenders = [bench.Contender(name, sys.executable, "evaluate_memory.py", kind, json.dumps(spec),
                                  threads=args.threads)
                  for kind, name in (("window", f"recomputing a window of {spec['window']}"),
                                     ("memory", f"with a memory of {spec['window']}"))]
    bench.interleave(contenders, args.rounds)
    table = [each.row("milliseconds", "ms a token") for each in contenders]
    table.append(bench.rows.ratio("faster with a memory", *table, BAR))
    text = TEXT.format(layers=spec["fields"]["num_layers"], width=spec["fields"]["hidden_dim"], threads=args.threads,
                       parameters=contenders[0].ready["parameters"], **{
                           name: spec[name] for name in ("window", "segment", "calls")})
    return bench.finish(args, "transformer_xl_evaluation", TITLE, text, table, bench.versions_of(contenders), started)


if __name__ == "__main__":
    sys.exit(main())

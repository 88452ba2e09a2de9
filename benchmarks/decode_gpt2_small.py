"""Greedy decoding of GPT-2 small through the exported ONNX file, against what others make of the same weights."""
import json
import random
import shutil
import sys

import bench

TITLE = "Decoding with GPT-2 small, batch 1, greedy: tokens a second"
PROMPT, NEW_TOKENS = 32, 64
TEXT = ("Random weights, the same for everybody; prompt {prompt}, {new} new tokens, float32 unless said otherwise, "
        "{threads} threads. A run is one whole call, the prompt included, warm, of each contender in turn; ratios are "
        "taken round by round.")


def main():
    args = bench.options(TITLE, rounds=7, peers=True).parse_args()
    started = bench.machine.describe()
    preset, overrides = ("gpt2-nano", {"max_sequence_length": 128}) if args.toy else ("gpt2-small", {})
    folder = bench.WORK / "decode"
    shutil.rmtree(folder, ignore_errors=True)  # conversions of other weights would be taken for these
    bundle, checkpoint = folder / "bundle", folder / "checkpoint"
    bench.say("exporting")
    bench.run_once(sys.executable, bench.HERE / "contenders" / "export_kzoo.py", preset, json.dumps(overrides), "onnx",
                   bundle, checkpoint)
    vocabulary = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    picked = random.Random(0)
    spec = json.dumps({"prompt": [picked.randrange(vocabulary) for _ in range(PROMPT)], "new_tokens": NEW_TOKENS,
                       "threads": args.threads})
    ours = bench.Contender("kzoo, ONNX", sys.executable, "decode_kzoo.py", bundle, spec, threads=args.threads)
    peers = {kind: bench.Contender(name, args.peers, "decode_peers.py", kind, checkpoint, folder / kind, spec,
                                   threads=args.threads, optional=True)
             for kind, name in (("optimum", "Optimum, ONNX Runtime"), ("float32", "CTranslate2"),
                                ("torch", "Hugging Face, torch"), ("int8", "CTranslate2 int8"))}
    bench.interleave([ours, *peers.values()], args.rounds)
    ids = ours.answers[0]["ids"]

    def agreement(contender):
        if not contender.answers:
            return ""
        equal = sum(mine == other for mine, other in zip(ids, contender.answers[0]["ids"], strict=True))
        return f"{equal} of {NEW_TOKENS} ids as kzoo's"

    rows = {each: each.row("tokens_per_second", "tokens/s", agreement(each)) for each in peers.values()}
    own = ours.row("tokens_per_second", "tokens/s")
    table = [own, *rows.values()]
    for kind, contender in peers.items():
        table.append(bench.rows.ratio(f"kzoo / {contender.name}", own, rows[contender],
                                      ">= 1.2" if kind in ("optimum", "float32") else None))
    table.append(bench.rows.Row("kzoo: share of the time outside of ONNX Runtime", ours.values("outside"), "%", "<= 5"))
    text = TEXT.format(prompt=PROMPT, new=NEW_TOKENS, threads=args.threads)
    shutil.rmtree(folder)
    return bench.finish(args, "decode_gpt2_small", TITLE, text, table, bench.versions_of([ours, *peers.values()]),
                        started)


if __name__ == "__main__":
    sys.exit(main())

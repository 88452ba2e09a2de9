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
        "taken round by round. The limit by memory is that each new token needs all weights once: bytes of the file "
        "times tokens a second, against what as many threads read a second from memory in the same round.")
VARIANTS = {"none": "kzoo, ONNX", "int8": "kzoo, ONNX int8", "int4": "kzoo, ONNX int4"}
PEERS = {"optimum": "Optimum, ONNX Runtime", "float32": "CTranslate2", "torch": "Hugging Face, torch",
         "int8": "CTranslate2 int8"}
BARS = {("none", "optimum"): ">= 1.2", ("none", "float32"): ">= 1.2", ("none", "torch"): None, ("none", "int8"): None,
        ("int8", "int8"): ">= 2.2", ("int4", "int8"): ">= 3.2"}
SHARE_BARS = {"none": None, "int8": ">= 40", "int4": ">= 40"}
SIZE_BARS = {"int8": "<= 0.27", "int4": "<= 0.16"}


def main():
    args = bench.options(TITLE, rounds=7, peers=True).parse_args()
    started = bench.machine.describe()
    preset, overrides = ("gpt2-nano", {"max_sequence_length": 128}) if args.toy else ("gpt2-small", {})
    folder = bench.WORK / "decode"
    shutil.rmtree(folder, ignore_errors=True)  # conversions of other weights would be taken for these
    bundle, checkpoint = folder / "bundle", folder / "checkpoint"
    bench.say("exporting")
    exported = bench.run_once(sys.executable, bench.HERE / "contenders" / "export_kzoo.py", preset,
                              json.dumps(overrides), json.dumps({"formats": ["onnx"], "quantize": list(VARIANTS)}),
                              bundle, checkpoint)
    vocabulary = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    picked = random.Random(0)
    spec = {"prompt": [picked.randrange(vocabulary) for _ in range(PROMPT)], "new_tokens": NEW_TOKENS,
            "threads": args.threads}
    ours = {variant: bench.Contender(name, sys.executable, "decode_kzoo.py", bundle,
                                     json.dumps({**spec, "variant": variant}), threads=args.threads)
            for variant, name in VARIANTS.items()}
    peers = {kind: bench.Contender(name, args.peers, "decode_peers.py", kind, checkpoint, folder / kind,
                                   json.dumps(spec), threads=args.threads, optional=True)
             for kind, name in PEERS.items()}
    memory = bench.Contender("reading memory", sys.executable, "read_memory.py", args.threads)
    bench.interleave([*ours.values(), *peers.values(), memory], args.rounds)
    rows = {each: bench.token_row(each, ours["none"]) for each in (*ours.values(), *peers.values())}
    table = list(rows.values())
    for (variant, kind), bar in BARS.items():
        table.append(bench.rows.ratio(f"{VARIANTS[variant]} / {PEERS[kind]}", rows[ours[variant]], rows[peers[kind]],
                                      bar))
    read = bench.rows.Row(f"memory, read by {args.threads} threads",
                          [each / 1e9 for each in memory.values("bytes_per_second")], "GB/s")
    table.append(read)
    for variant, contender in ours.items():
        table += costs(variant, contender, exported["artifacts"], rows[contender].values, read.values)
    text = TEXT.format(prompt=PROMPT, new=NEW_TOKENS, threads=args.threads)
    shutil.rmtree(folder)
    return bench.finish(args, "decode_gpt2_small", TITLE, text, table, bench.versions_of(list(rows)), started)


def costs(variant, contender, artifacts, speeds, limits):
    """Rows on one of our files: its size, how near to memory's speed it runs, and what our own loop takes."""
    name, whole = contender.name, artifacts["onnx"]["size"]
    size = artifacts["onnx" if variant == "none" else f"onnx {variant}"]["size"]
    if variant in SIZE_BARS:
        yield bench.rows.Row(f"{name}: size / float32's", [size / whole], "x", SIZE_BARS[variant],
                             f"{size / 1e6:.1f} MB")
    shares = [100 * speed * size / 1e9 / limit for speed, limit in zip(speeds, limits, strict=True)]
    yield bench.rows.Row(f"{name}: share of the limit by memory", shares, "%", SHARE_BARS[variant])
    yield bench.rows.Row(f"{name}: share of the time outside of ONNX Runtime", contender.values("outside"), "%", "<= 5")


if __name__ == "__main__":
    sys.exit(main())

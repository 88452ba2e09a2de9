"""Greedy decoding of GPT-2 small through the exported files, against what others make of the same weights."""
import json
import random
import shutil
import sys

import bench

TITLE = "Decoding with GPT-2 small, batch 1, greedy: tokens a second"
PROMPT, NEW_TOKENS = 32, 64
ROOM = 128  # tokens that the TFLite files have room for
TEXT = ("Random weights, the same for everybody; prompt {prompt}, {new} new tokens, float32 unless said otherwise, "
        "{threads} threads. A run is one whole call, the prompt included, warm, of each contender in turn; ratios are "
        "taken round by round. The limit by memory is that each new token needs all weights once: bytes of the file "
        "times tokens a second, against what as many threads read a second from memory in the same round. The TFLite "
        "files have room for {room} tokens.")
OURS = {("onnx", "none"): "kzoo, ONNX", ("onnx", "int8"): "kzoo, ONNX int8", ("onnx", "int4"): "kzoo, ONNX int4",
        ("tflite", "none"): "kzoo, TFLite", ("tflite", "int8"): "kzoo, TFLite int8",
        ("tflite", "int4"): "kzoo, TFLite int4"}
FIRST = ("onnx", "none")
EXPORT = {"formats": ["onnx", "tflite"], "quantize": ["none", "int8", "int4"], "static_length": ROOM}
PEERS = {"optimum": "Optimum, ONNX Runtime", "float32": "CTranslate2", "torch": "Hugging Face, torch",
         "int8": "CTranslate2 int8"}
BARS = {(FIRST, "optimum"): ">= 1.2", (FIRST, "float32"): ">= 1.2", (FIRST, "torch"): None, (FIRST, "int8"): None,
        (("onnx", "int8"), "int8"): ">= 2.2", (("onnx", "int4"), "int8"): ">= 3.2",
        (("tflite", "none"), "float32"): ">= 1.2", (("tflite", "int8"), "int8"): ">= 2.0",
        (("tflite", "int4"), "int8"): None}
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
                              json.dumps(overrides), json.dumps(EXPORT), bundle, checkpoint)
    vocabulary = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    picked = random.Random(0)
    spec = {"prompt": [picked.randrange(vocabulary) for _ in range(PROMPT)], "new_tokens": NEW_TOKENS,
            "threads": args.threads}
    ours = {(runtime, variant): bench.Contender(
        name, sys.executable, "decode_kzoo.py", bundle,
        json.dumps({**spec, "runtime": runtime, "variant": variant}), threads=args.threads)
        for (runtime, variant), name in OURS.items()}
    peers = {kind: bench.Contender(name, args.peers, "decode_peers.py", kind, checkpoint, folder / kind,
                                   json.dumps(spec), threads=args.threads, optional=True)
             for kind, name in PEERS.items()}
    memory = bench.Contender("reading memory", sys.executable, "read_memory.py", args.threads)
    bench.interleave([*ours.values(), *peers.values(), memory], args.rounds)
    rows = {each: bench.token_row(each, ours[FIRST]) for each in (*ours.values(), *peers.values())}
    table = list(rows.values())
    for (name, kind), bar in BARS.items():
        table.append(bench.rows.ratio(f"{OURS[name]} / {PEERS[kind]}", rows[ours[name]], rows[peers[kind]], bar))
    read = bench.rows.Row(f"memory, read by {args.threads} threads",
                          [each / 1e9 for each in memory.values("bytes_per_second")], "GB/s")
    table.append(read)
    for (runtime, variant), contender in ours.items():
        table += costs(runtime, variant, contender, exported["artifacts"], rows[contender].values, read.values)
    text = TEXT.format(prompt=PROMPT, new=NEW_TOKENS, threads=args.threads, room=ROOM)
    shutil.rmtree(folder)
    return bench.finish(args, "decode_gpt2_small", TITLE, text, table, bench.versions_of(list(rows)), started)


def costs(runtime, variant, contender, artifacts, speeds, limits):
    """Rows on one of our files: its size, how near to memory's speed it runs, and what our own loop takes."""
    name, whole = contender.name, artifacts[runtime]["size"]
    size = artifacts[runtime if variant == "none" else f"{runtime} {variant}"]["size"]
    if variant in SIZE_BARS:
        yield bench.rows.Row(f"{name}: size / float32's", [size / whole], "x", SIZE_BARS[variant],
                             f"{size / 1e6:.1f} MB")
    shares = [100 * speed * size / 1e9 / limit for speed, limit in zip(speeds, limits, strict=True)]
    yield bench.rows.Row(f"{name}: share of the limit by memory", shares, "%",
                         SHARE_BARS[variant] if runtime == "onnx" else None)
    yield bench.rows.Row(f"{name}: share of the time outside of the runtime", contender.values("outside"), "%", "<= 5")


if __name__ == "__main__":
    sys.exit(main())

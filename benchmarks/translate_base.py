"""Greedy translation with Transformer-base through the exported ONNX files, against what others make of the weights."""
import json
import random
import shutil
import sys

import bench

TITLE = "Translating 32 sentences with Transformer-base, greedy: target tokens a second"
SOURCES, SOURCE_LENGTH, NEW_TOKENS, VOCABULARY = 32, 20, 24, 32000
TEXT = ("Random weights in Marian's form, the same for everybody; {sources} sources of {length} tokens in one batch, "
        "{new} target tokens each, float32 unless said otherwise, {threads} threads. A run is one whole call, the "
        "encoder included, warm, of each contender in turn; ratios are taken round by round.")
VARIANTS = {"none": "kzoo, ONNX", "int8": "kzoo, ONNX int8"}
PEERS = {"optimum": "Optimum, ONNX Runtime", "float32": "CTranslate2", "torch": "Hugging Face, torch",
         "int8": "CTranslate2 int8"}
BARS = {("none", "float32"): ">= 2.2", ("none", "optimum"): None, ("none", "torch"): None, ("int8", "int8"): ">= 1.25"}


def main():
    args = bench.options(TITLE, rounds=7, peers=True).parse_args()
    started = bench.machine.describe()
    sizes = {"task": "translation", "vocabulary_size": VOCABULARY, "pad_id": VOCABULARY - 1,
             "decoder_start_id": VOCABULARY - 1}
    if args.toy:
        sizes |= {"num_layers": 1, "num_heads": 2, "hidden_dim": 32, "intermediate_dim": 64}
    folder = bench.WORK / "translate"
    shutil.rmtree(folder, ignore_errors=True)  # conversions of other weights would be taken for these
    bundle, checkpoint = folder / "bundle", folder / "checkpoint"
    bench.say("exporting")
    bench.run_once(sys.executable, bench.HERE / "contenders" / "export_kzoo.py", "marian-base", json.dumps(sizes),
                   json.dumps({"formats": ["onnx"], "quantize": list(VARIANTS)}), bundle, checkpoint)
    picked = random.Random(0)
    spec = {"sources": [[picked.randrange(1, VOCABULARY - 1) for _ in range(SOURCE_LENGTH)] for _ in range(SOURCES)],
            "new_tokens": NEW_TOKENS, "threads": args.threads}
    ours = {variant: bench.Contender(name, sys.executable, "translate_kzoo.py", bundle,
                                     json.dumps({**spec, "variant": variant}), threads=args.threads)
            for variant, name in VARIANTS.items()}
    peers = {kind: bench.Contender(name, args.peers, "translate_peers.py", kind, checkpoint, folder / kind,
                                   json.dumps(spec), threads=args.threads, optional=True)
             for kind, name in PEERS.items()}
    bench.interleave([*ours.values(), *peers.values()], args.rounds)
    rows = {each: bench.token_row(each, ours["none"]) for each in (*ours.values(), *peers.values())}
    table = [*rows.values(), *(
        bench.rows.ratio(f"{VARIANTS[variant]} / {PEERS[kind]}", rows[ours[variant]], rows[peers[kind]], bar)
        for (variant, kind), bar in BARS.items())]
    text = TEXT.format(sources=SOURCES, length=SOURCE_LENGTH, new=NEW_TOKENS, threads=args.threads)
    shutil.rmtree(folder)
    return bench.finish(args, "translate_base", TITLE, text, table, bench.versions_of(list(rows)), started)


if __name__ == "__main__":
    sys.exit(main())

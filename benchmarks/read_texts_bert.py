"""Reading texts with BERT-base through the exported ONNX files, against Optimum's of the same weights."""
import json
import shutil
import sys

import bench

TITLE = "Reading texts of 128 tokens with BERT-base: milliseconds a batch"
LENGTH, BATCHES = 128, {1: 10, 8: 2}  # batch size -> calls of a run
VARIANTS = {"none": "float32", "int8": "int8"}
BAR = "<= 0.95"
TEXT = ("A classifier with random weights, the same for both; texts without padding, {threads} threads, ONNX Runtime "
        "on both sides. Optimum's int8 is its dynamic quantisation for AVX-512 VNNI. A run is {calls} calls at batch 1 "
        "and {few} at batch 8, warm, of each contender in turn; ratios are taken round by round.")


def main():
    args = bench.options(TITLE, rounds=9, peers=True).parse_args()
    started = bench.machine.describe()
    preset = "bert-tiny" if args.toy else "bert-base"
    folder = bench.WORK / "read_texts"
    shutil.rmtree(folder, ignore_errors=True)  # conversions of other weights would be taken for these
    bundle, checkpoint = folder / "bundle", folder / "checkpoint"
    bench.say("exporting")
    overrides = json.dumps({"task": "text-classification", "labels": ["no", "yes"]})
    bench.run_once(sys.executable, bench.HERE / "contenders" / "export_kzoo.py", preset, overrides,
                   json.dumps({"formats": ["onnx"], "quantize": list(VARIANTS)}), bundle, checkpoint)
    # Optimum asks for a tokenizer, which is not used.
    (checkpoint / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", encoding="utf-8")
    pairs = []  # (batch size, variant, ours, Optimum's)
    for batch_size, calls in BATCHES.items():
        for variant, name in VARIANTS.items():
            spec = json.dumps({"variant": variant, "batch_size": batch_size, "length": LENGTH, "calls": calls,
                               "ids": [1000, 30000], "threads": args.threads})
            place = f"{name}, batch {batch_size}"
            ours = bench.Contender(f"kzoo {place}", sys.executable, "read_texts_kzoo.py", bundle, spec,
                                   threads=args.threads)
            theirs = bench.Contender(f"Optimum {place}", args.peers, "read_texts_optimum.py", variant, checkpoint,
                                     folder / variant, spec, threads=args.threads, optional=True)
            pairs.append((batch_size, variant, ours, theirs))
    contenders = [each for *_, ours, theirs in pairs for each in (ours, theirs)]
    bench.interleave(contenders, args.rounds)
    table, ratios = [], []
    for batch_size, variant, ours, theirs in pairs:
        rows = [each.row("milliseconds", "ms", farthest(each, pairs[0][2])) for each in (ours, theirs)]
        table += rows
        ratios.append(bench.rows.ratio(f"kzoo / Optimum, {VARIANTS[variant]}, batch {batch_size}", *rows, BAR))
    text = TEXT.format(threads=args.threads, calls=BATCHES[1], few=BATCHES[8])
    shutil.rmtree(folder)
    return bench.finish(args, "read_texts_bert", TITLE, text, table + ratios, bench.versions_of(contenders), started)


def farthest(contender, reference):
    """How far the first text's logits are from those of our float32 file; in a batch the first text is the same."""
    if not contender.answers or contender is reference:
        return ""
    found, wanted = contender.answers[0]["logits"][0], reference.answers[0]["logits"][0]
    return f"logits differ by {max(abs(one - other) for one, other in zip(found, wanted, strict=True)):.1e}"


if __name__ == "__main__":
    sys.exit(main())

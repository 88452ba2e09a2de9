"""Language models of one size on long rows of characters: what each kind of attention makes of the same text."""
import os
import sys

import bench
import recipe

TITLE = "Characters of WikiText-2 in rows of 1,024: full attention, windows, hashing and recurrence"
DATA, FILE = "wikitext-2", "valid.txt.gz"
OPTIONS = {"tokenizer": "character", "steps": 1500, "learning-rate": 1e-3, "min-learning-rate": 1e-4,
           "warmup-steps": 100, "schedule": "cosine", "beta-1": 0.9, "beta-2": 0.99, "weight-decay": 0.1,
           "clip-norm": 1.0, "validation-split": 0.1, "seed": 0}
ROWS = {"sequence-length": 1024, "batch-size": 4}
SEGMENTS = {"sequence-length": 256, "batch-size": 16}  # as many characters a step
SIZES = {"num_layers": 4, "num_heads": 4, "hidden_dim": 128, "dropout": 0}
REFORMER = {**SIZES, "head_dim": 32, "max_sequence_length": 1024, "num_hashes": 2, "lsh_chunk_length": 64,
            "local_chunk_length": 64, "axial_shape": "32,32", "axial_dims": "64,64", "local_attention_dropout": 0}
# name -> preset, options, fields, options of `kzoo evaluate`. The widths within layers make them equally large.
MODELS = {
    "full": ("gpt2-nano", ROWS, {**SIZES, "intermediate_dim": 512, "max_sequence_length": 1024}, {}),
    "window of 128": ("gpt2-nano", ROWS, {**SIZES, "intermediate_dim": 512, "max_sequence_length": 1024,
                                          "pattern": '{"name":"sliding_window","window_size":128}'}, {}),
    "LSH (Reformer)": ("reformer-nano", ROWS, {**REFORMER, "intermediate_dim": 624}, {}),
    "memory (Transformer-XL)": ("transformer-xl-nano", SEGMENTS, {
        **SIZES, "head_dim": 32, "intermediate_dim": 580, "max_sequence_length": 256, "memory_length": 768},
        {"memory_length": 768}),
}
TOY = {"steps": 2, "warmup-steps": 1, "sequence-length": 32, "batch-size": 2}
TOY_FIELDS = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 8, "max_sequence_length": 32}
TOY_MORE = {"reformer-nano": {"head_dim": 4, "axial_shape": "4,8", "axial_dims": "3,5"},
            "transformer-xl-nano": {"head_dim": 4, "memory_length": 32}}
TEXT = ("`valid.txt` of WikiText-2 as characters, its last tenth for measuring; 4 layers of width 128, 4 heads, "
        "1,500 steps of 4,096 characters (6 times over the text), AdamW, 0.001 falling to 0.0001, no dropout, one "
        "seed, and one recipe that was tuned for none of them. Rows of 1,024 characters; Transformer-XL reads "
        "segments of 256 with a memory of 768, and is the only one that sees across rows when it is measured. "
        "Positions differ as well: a learned vector for each of 1,024 places in the first two, axial ones in the "
        "third, distances in the last. Memory is the most that the process of the training held, TensorFlow itself "
        "included.")


def main():
    args = bench.options(TITLE, data=DATA).parse_args()
    data, started = bench.need_data(args, FILE) / FILE, bench.machine.describe()
    work = recipe.work("long_quality", args)
    table = []
    for name, (preset, shape, fields, reading) in MODELS.items():
        options = {**OPTIONS, **shape}
        if args.toy:
            options, reading = {**options, **TOY}, {}
            fields = {**fields, **TOY_FIELDS, **TOY_MORE.get(preset, {})}
        out = work / preset / name.split()[0]
        with bench.machine.PeakMemory(os.getpid()) as peak:
            trained = recipe.train(preset, "text-generation", data, out, options, fields)
        found = recipe.evaluate(out, data, tail=OPTIONS["validation-split"], **reading)
        table += [
            bench.rows.Row(f"{name}: bits a character", [found["bits_per_character"]], "bits",
                           note=f"{found['tokens']:,} characters"),
            bench.rows.Row(f"{name}: training", [trained["seconds"]], "s"),
            bench.rows.Row(f"{name}: memory of the training", [peak.largest / 2**30], "GiB"),
            bench.rows.Row(f"{name}: parameters", [trained["parameters"] / 1e6], "M")]
    status = bench.finish(args, "long_quality", TITLE, TEXT, table, bench.own_versions("keras", "tensorflow"), started)
    print(f"{table[0].median:.4f}")
    return status


if __name__ == "__main__":
    sys.exit(main())

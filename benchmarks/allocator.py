"""What the allocator of memory is worth in training on the CPU: glibc with and without huge pages, and two others."""
import ctypes.util
import json
import sys

import bench
from training_step import TOY

TITLE = "Training on the CPU with other allocators of memory"
SPEC = {"shapes": [[512, 8], [340, 12], [256, 16], [204, 20], [170, 24], [128, 32]], "steps": 4, "fields": {}}
GLIBC = "glibc"
KEEP = "thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1"  # of jemalloc: huge pages, and nothing is given back
# Name -> the library that is loaded first, and more of the environment.
ALLOCATORS = {GLIBC: (None, {}), "glibc, huge pages": (None, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}),
              "jemalloc": ("jemalloc", {}), "jemalloc, huge pages, keeping all": ("jemalloc", {"MALLOC_CONF": KEEP}),
              "tcmalloc": ("tcmalloc_minimal", {})}
TEXT = ("Transformer-Tiny (vocabulary 9,712, dropout 0.3, label smoothing 0.1), batches of 4,096 tokens a side in six "
        "shapes, AdamW, float32, XLA, {threads} threads, TensorFlow on Linux. A library is loaded with LD_PRELOAD; "
        "MALLOC_CONF of the second jemalloc is {keep}. A run is {steps} rounds of all shapes, compiled and warm, with "
        "each allocator in turn; ratios are taken round by round.")


def main():
    args = bench.options(TITLE, rounds=7).parse_args()
    started, spec = bench.machine.describe(), TOY if args.toy else SPEC
    contenders = [contender(name, library, variables, spec, args.threads)
                  for name, (library, variables) in ALLOCATORS.items()]
    bench.interleave(contenders, args.rounds)
    table = [each.row("seconds", "s") for each in contenders]
    table += [bench.rows.ratio(f"{row.name} / {GLIBC}", row, table[0]) for row in table[1:]]
    text = TEXT.format(threads=args.threads, keep=KEEP, **spec)
    return bench.finish(args, "allocator", TITLE, text, table, bench.versions_of(contenders), started)


def contender(name, library, variables, spec, threads):
    found = library and ctypes.util.find_library(library)
    preload = {"LD_PRELOAD": found} if found else {}
    made = bench.Contender(name, sys.executable, "fit_translator.py",
                           json.dumps({**spec, "keras": [], "jit": True}), threads=threads, **variables, **preload)
    if library and not found:
        made.problem = f"not measured: the system has no lib{library}"
    return made


if __name__ == "__main__":
    sys.exit(main())

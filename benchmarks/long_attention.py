"""What each pattern of attention costs against the length: operations, memory, time; with a plot for the docs."""
import math
import os
import statistics
import sys
import time

import bench

os.environ["KERAS_BACKEND"] = "jax"  # whose compiler says what it counted

TITLE = "Attention patterns against the length"
TEXT = ("One layer, batch 1, {heads} heads of {width}, causal, float32, compiled by JAX. Operations (forwards) and "
        "temporary memory (forwards and backwards) are what the compiler counts; it counts the loop of `blockwise` "
        "once. `lsh` hashes in 2 rounds with chunks of 64 and two buckets for each. Time is of a forward and backward "
        "pass, patterns taking turns. Growth is that of each doubling of the length, from {shortest:,} tokens on. "
        "docs/long_attention.svg shows every length.")
HEADS, WIDTH, CHUNK = 8, 64, 64
LENGTHS, TOY_LENGTHS = (1024, 2048, 4096, 8192, 16384), (256, 512)
MOST_BYTES = 4 << 30  # more temporary memory than this is told and not run
BARS = {"sliding_window": "<= 2.1", "block_local": "<= 2.1", "block_sparse": "<= 2.1", "lsh": "<= 2.3"}
COLORS = ("#d1495b", "#2563c4", "#b8860b", "#2a9d6f", "#c2571a", "#8457b0", "#7a7f87", "#0f9fb5")
PLOT = bench.HERE.parent / "docs" / "long_attention.svg"


def patterns(length):
    """name -> function of queries, keys and values, with blocks that suit the length."""
    import functools

    import numpy as np

    from kzoo.layers import (
        BlockLocal,
        BlockSparse,
        Blockwise,
        Causal,
        Full,
        Hierarchical,
        NoPosition,
        SlidingWindow,
        Strided,
        locate,
    )
    from kzoo.layers.lsh import lsh_attention, lsh_buckets

    root = 1 << (length.bit_length() // 2)
    buckets = root // 2, max(length // CHUNK // (root // 2), 1) * 2  # two for each chunk, in two factors
    rotations = np.random.default_rng(1).normal(size=(HEADS, WIDTH, 2, sum(buckets) // 2)).astype("float32")

    def hashed(query, key, value):  # which has no keys of its own
        return lsh_attention(query, value, lsh_buckets(query, rotations, buckets), CHUNK, mask=Causal())

    def attend(pattern, *inputs):
        return pattern.attend(*inputs, locate(np.zeros((1, length), "int32")), Causal(), NoPosition())

    found = {"full": Full(), "blockwise": Blockwise(min(512, length // 4)), "sliding_window": SlidingWindow(129),
             "block_local": BlockLocal(128), "block_sparse": BlockSparse(64, num_random=3), "strided": Strided(root),
             "hierarchical": Hierarchical(root)}
    return {**{name: functools.partial(attend, pattern) for name, pattern in found.items()}, "lsh": hashed}


def compiled(attend, length):
    """(forward pass, gradient), compiled."""
    import jax

    def gradient(*inputs):
        return jax.vjp(attend, *inputs[:3])[1](inputs[3])

    shape = jax.ShapeDtypeStruct((1, length, HEADS, WIDTH), "float32")
    return [jax.jit(function).lower(*[shape] * number).compile() for function, number in ((attend, 3), (gradient, 4))]


def measure(length, rounds):
    """name -> dict of `operations`, `bytes` and `seconds`, the last a list and empty where memory does not allow it."""
    import jax
    import numpy as np

    inputs = np.random.default_rng(0).normal(size=(4, 1, length, HEADS, WIDTH)).astype("float32")
    found, ready = {}, {}
    for name, attend in patterns(length).items():
        forward, gradient = compiled(attend, length)
        found[name] = {"operations": forward.cost_analysis()["flops"],
                       "bytes": gradient.memory_analysis().temp_size_in_bytes, "seconds": []}
        if found[name]["bytes"] <= MOST_BYTES:
            ready[name] = gradient
    for done in range(rounds + 1):
        for name, gradient in ready.items():
            begin = time.perf_counter()
            jax.block_until_ready(gradient(*inputs))
            if done:
                found[name]["seconds"].append(time.perf_counter() - begin)
    return found


def rows_of(results, lengths):
    """The table of the longest length, and the growth up to it."""
    rows = []

    def growth(name, what):
        found = [results[length][name][what] for length in lengths]
        return [after / before for before, after in zip(found, found[1:], strict=False)]

    for name, found in results[lengths[-1]].items():
        rows.append(bench.rows.Row(f"{name}, {lengths[-1]:,} tokens: time", found["seconds"], "s", None,
                                   "" if found["seconds"] else "more memory than is there"))
        rows.append(bench.rows.Row(f"{name}: temporary memory", [found["bytes"] / 2**20], "MiB"))
        if name != "blockwise":
            rows.append(bench.rows.Row(f"{name}: operations, growth", growth(name, "operations"), "x", BARS.get(name)))
        rows.append(bench.rows.Row(f"{name}: memory, growth", growth(name, "bytes"), "x",
                                   "<= 2.1" if name == "blockwise" else BARS.get(name)))
    return rows


def draw(results, lengths):
    """Memory and time against the length, both axes logarithmic, as SVG that suits light and dark pages."""
    names = list(results[lengths[0]])
    parts = panel("temporary memory, MiB", 60, lengths, {
        name: [results[length][name]["bytes"] / 2**20 for length in lengths] for name in names})
    parts += panel("seconds, forwards and backwards", 440, lengths, {
        name: [statistics.median(results[length][name]["seconds"] or [0]) for length in lengths] for name in names})
    for number, (color, name) in enumerate(zip(COLORS, names, strict=True)):
        x, y = 60 + 170 * (number % 4), 325 + 20 * (number // 4)
        parts.append(f'<rect x="{x}" y="{y - 7}" width="14" height="5" fill="{color}"/>'
                     f'<text x="{x + 20}" y="{y}">{name}</text>')
    return ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 770 360" font-family="system-ui, sans-serif" '
            'font-size="12" fill="#7a7f87" role="img" aria-label="Cost of attention patterns against the length">'
            + "\n".join(parts) + "</svg>\n")


def panel(title, left, lengths, lines):
    """Parts of an SVG: name -> one value a length, 0 where there is none, as lines."""
    values = [value for line in lines.values() for value in line if value]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def place(length, value):
        return (left + 300 * math.log(length / lengths[0]) / math.log(lengths[-1] / lengths[0]),
                40 + 240 * (1 - (math.log10(value) - low) / (high - low)))

    parts = [f'<text x="{left}" y="20" font-weight="bold">{title}</text>']
    for power in range(low, high + 1):
        _, y = place(lengths[0], 10.0 ** power)
        parts.append(f'<line x1="{left}" x2="{left + 300}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8888"/>'
                     f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0 ** power:g}</text>')
    for length in lengths:
        x, _ = place(length, 10.0 ** low)
        parts.append(f'<text x="{x:.1f}" y="298" text-anchor="middle">{length}</text>')
    for color, line in zip(COLORS, lines.values(), strict=True):
        points = [place(length, value) for length, value in zip(lengths, line, strict=True) if value]
        parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" fill="none" '
                     f'stroke="{color}" stroke-width="2.5"/>')
    return parts


def main():
    args = bench.options(TITLE, rounds=5).parse_args()
    lengths, rounds = (TOY_LENGTHS, 1) if args.toy else (LENGTHS, args.rounds)
    started, results = bench.machine.describe(), {}
    for length in lengths:
        bench.say(f"{length:,} tokens")
        results[length] = measure(length, rounds)
    if args.toy:
        draw(results, lengths)
    else:
        bench.rows.write_text(PLOT, draw(results, lengths))
    text = TEXT.format(heads=HEADS, width=WIDTH, shortest=lengths[0])
    return bench.finish(args, "long_attention", TITLE, text, rows_of(results, lengths),
                        bench.own_versions("keras", "jax"), started)


if __name__ == "__main__":
    sys.exit(main())

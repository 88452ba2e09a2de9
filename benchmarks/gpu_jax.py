"""What needs a GPU, on Keras' JAX backend, without TensorFlow: nanoGPT's character model, and the speed of GPT-2 small.

    KERAS_BACKEND=jax python benchmarks/gpu_jax.py --data input.txt [--only shakespeare|step]
"""
import os
import sys
import tempfile
import time

import bench

TITLE = "On a GPU, JAX backend: nanoGPT's character model, a training step of GPT-2 small"
CHARACTERS = {  # nanoGPT's config/train_shakespeare_char.py
    "overrides": {"num_layers": 6, "num_heads": 6, "hidden_dim": 384, "max_sequence_length": 256, "dropout": 0.2,
                  "use_bias": False},
    "options": {"steps": 5000, "batch_size": 64, "learning_rate": 1e-3, "min_learning_rate": 1e-4, "warmup_steps": 100,
                "schedule": "cosine", "beta_1": 0.9, "beta_2": 0.99, "weight_decay": 0.1, "clip_norm": 1.0,
                "validation_split": 0.1, "interval": 250, "mixed_precision": "bfloat16"}}
TEXT = ("Characters: 6 layers, 6 heads, width 384, block 256, batch 64, dropout 0.2, 5,000 steps in bfloat16; like "
        "nanoGPT's 1.4697 the loss is the best of a validation every 250 steps, here over the whole last tenth of the "
        "text. GPT-2 small: a step of `model.fit` with AdamW, length 1,024, bfloat16 computation, XLA; the peak is the "
        "best square bfloat16 matrix product found on the same card, and a token costs 6 operations a weight plus "
        "12 x layers x width x length (Chowdhery et al. 2022, appendix B).")


def shakespeare(data, toy):
    """Rows of the character model."""
    import kzoo

    overrides, options = CHARACTERS["overrides"], CHARACTERS["options"]
    if toy:
        overrides = {**overrides, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "max_sequence_length": 32}
        options = {**options, "steps": 6, "warmup_steps": 2, "interval": 3, "batch_size": 4}
    with tempfile.TemporaryDirectory() as folder:
        results = kzoo.train("gpt2-nano", data, f"{folder}/run", tokenizer="character", overrides=overrides,
                             **options).results
    best = min(results["history"], key=lambda row: row["valid_loss"])
    return [bench.rows.Row("characters: best validation loss", [best["valid_loss"]], "nats", "<= 1.47",
                           f"at step {best['step']:,}"),
            bench.rows.Row("characters: last validation loss", [results["valid"]["loss"]], "nats"),
            bench.rows.Row("characters: the whole run", [results["seconds"]], "s")]


def step(rounds, batch_size, toy):
    """Rows of GPT-2 small's training step."""
    import keras
    import numpy as np

    import kzoo

    length, steps, overrides = 1024, 30, {"dropout": 0.0}
    if toy:
        length, steps, batch_size = 32, 3, 2
        overrides = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "vocabulary_size": 211, "dropout": 0.0}
    model = kzoo.create("gpt2-small", dtype="mixed_bfloat16", **overrides)
    config = model.config
    model.compile(optimizer=keras.optimizers.AdamW(1e-4), jit_compile=True,
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    shape = (steps * batch_size, length + 1)
    ids = np.random.default_rng(0).integers(0, config.vocabulary_size, shape).astype("int32")

    def fit():
        model.fit({"token_ids": ids[:, :-1]}, ids[:, 1:], batch_size=batch_size, verbose=0)

    fit()  # compiles
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        fit()
        seconds.append((time.perf_counter() - start) / steps)
    tokens = batch_size * length
    weights = model.count_params() - config.max_sequence_length * config.hidden_dim  # positions are only looked up
    operations = tokens * (6 * weights + 12 * config.num_layers * config.hidden_dim * length)
    peak = matmul_peak((128, 256) if toy else (4096, 8192, 16384))
    name = f"GPT-2 small, batch {batch_size} x {length:,}"
    return [bench.rows.Row(f"{name}: a step", [1e3 * each for each in seconds], "ms"),
            bench.rows.Row(f"{name}: speed", [tokens / each for each in seconds], "tokens/s"),
            bench.rows.Row(f"{name}: arithmetic", [operations / each / 1e12 for each in seconds], "TFLOP/s"),
            bench.rows.Row("measured peak of a bfloat16 matrix product", [peak / 1e12], "TFLOP/s"),
            bench.rows.Row(f"{name}: share of that peak", [100 * operations / each / peak for each in seconds], "%")]


def matmul_peak(sizes, repeats=20):
    """Operations a second of the fastest square bfloat16 product among `sizes`."""
    import jax

    best = 0.0
    for size in sizes:
        left, right = (jax.random.normal(jax.random.key(seed), (size, size), "bfloat16") for seed in (0, 1))
        product = jax.jit(jax.numpy.matmul)
        product(left, right).block_until_ready()
        start = time.perf_counter()
        for _ in range(repeats):
            result = product(left, right)
        result.block_until_ready()
        best = max(best, 2 * size**3 * repeats / (time.perf_counter() - start))
    return best


def main():
    parser = bench.options(TITLE, rounds=5, data="tinyshakespeare/input.txt")
    parser.add_argument("--only", choices=("shakespeare", "step"), help="one of the two")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="of GPT-2 small; default 16")
    args = parser.parse_args()
    if os.environ.get("KERAS_BACKEND") != "jax":
        sys.exit("Set KERAS_BACKEND=jax.")
    started = bench.machine.describe()
    bench.use_checkout()
    import jax

    device = jax.devices()[0]
    if device.platform == "cpu" and not args.toy:
        sys.exit("JAX sees no accelerator. --toy shows on a CPU that the script runs.")
    started["processor"] = f"{device.device_kind}; {started['processor']}"
    table = []
    if args.only != "step":
        table += shakespeare(bench.need_data(args), args.toy)
    if args.only != "shakespeare":
        table += step(args.rounds, args.batch_size, args.toy)
    return bench.finish(args, "gpu_jax", TITLE, TEXT, table, bench.own_versions("keras", "jax", "jaxlib"), started)


if __name__ == "__main__":
    sys.exit(main())

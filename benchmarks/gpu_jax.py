"""The two measurements that need a GPU, on Keras' JAX backend: run with KERAS_BACKEND=jax.

    python benchmarks/gpu_jax.py shakespeare --data input.txt     nanoGPT's shakespeare_char setting, loss <= 1.47
    python benchmarks/gpu_jax.py step                             GPT-2 small in bfloat16: tokens/s, share of the peak

`--toy` shrinks both, to see that they run on a machine without one.
"""
import argparse
import pathlib
import statistics
import tempfile
import time

import jax
import jax.numpy as jnp
import keras
import numpy as np

import kzoo


def shakespeare(arguments):
    """6 layers, 6 heads, width 384, block 256, batch 64, dropout 0.2, 5,000 iterations (published: 1.4697)."""
    sizes = dict(num_layers=6, num_heads=6, hidden_dim=384, max_sequence_length=256, dropout=0.2, use_bias=False)
    options = dict(steps=5000, batch_size=64, interval=250)
    if arguments.toy:
        sizes.update(num_layers=1, num_heads=2, hidden_dim=32, max_sequence_length=32)
        options.update(steps=20, batch_size=8, interval=10)
    run = kzoo.train("gpt2-nano", arguments.data, pathlib.Path(tempfile.mkdtemp()) / "run", tokenizer="character",
                     overrides=sizes, learning_rate=1e-3, min_learning_rate=1e-4, warmup_steps=options["steps"] // 50,
                     schedule="cosine", weight_decay=0.1, beta_1=0.9, beta_2=0.99, clip_norm=1.0,
                     mixed_precision="bfloat16", **options)
    best = min(row["valid_loss"] for row in run.results["history"])
    print(f"validation loss: last {run.results['valid']['loss']:.4f}, best of the intervals {best:.4f}; "
          f"{run.results['seconds']} s, {run.results['tokens_per_second']} tokens/s")


def step(arguments):
    """One `fit` step of GPT-2 small, batch 16, length 1,024, bfloat16, XLA."""
    batch, length, sizes = 16, 1024, {}
    if arguments.toy:
        batch, length, sizes = 2, 32, dict(num_layers=1, num_heads=2, hidden_dim=32, vocabulary_size=211)
    model = kzoo.create("gpt2-small", dtype="mixed_bfloat16", dropout=0.0, **sizes)
    model.compile(keras.optimizers.AdamW(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  jit_compile=True)
    ids = np.random.default_rng(0).integers(0, model.config.vocabulary_size, (batch, length + 1)).astype("int32")
    inputs, targets = {"token_ids": ids[:, :-1]}, ids[:, 1:]
    times = []
    for _ in range(12):
        started = time.perf_counter()
        model.train_on_batch(inputs, targets)  # returns numbers, so it waits for the device
        times.append(time.perf_counter() - started)
    seconds = statistics.median(times[2:])
    tokens = batch * length
    width, layers = model.config.hidden_dim, model.config.num_layers
    # Forward and backward of all matrices, and of the scores and their use: Chowdhery et al. 2022, appendix B.
    operations = tokens * (6 * model.count_params() + 12 * layers * width * length)
    peak = matmul_peak(256 if arguments.toy else 8192)
    print(f"{seconds * 1000:.1f} ms a step, {tokens / seconds:,.0f} tokens/s, {operations / seconds / 1e12:.1f} TFLOP/s = "
          f"{operations / seconds / peak:.0%} of the measured {peak / 1e12:.0f} TFLOP/s")


def matmul_peak(size):
    """Operations a second of a square bfloat16 matrix product."""
    a, b = (jax.random.normal(jax.random.PRNGKey(i), (size, size), jnp.bfloat16) for i in range(2))
    product = jax.jit(jnp.matmul)
    product(a, b).block_until_ready()
    times = []
    for _ in range(10):
        started = time.perf_counter()
        product(a, b).block_until_ready()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("shakespeare", "step"))
    parser.add_argument("--data")
    parser.add_argument("--toy", action="store_true")
    chosen = parser.parse_args()
    print(jax.devices())
    {"shakespeare": shakespeare, "step": step}[chosen.work](chosen)

"""The duplication task: after 0w0 a Reformer must say w again, which it can only find by content."""
import sys

import bench

TITLE = "Duplication task, LSH attention with 4 rounds: symbols of the copy that are right"
LENGTH, SYMBOLS = 256, 64      # of 0w0w, so that w has 127 symbols of 1 .. 63
STEPS, BATCH, RATE = 300, 16, 3e-3
TOY = {"LENGTH": 32, "STEPS": 3, "BATCH": 4}
SIZES = {"num_layers": 1, "attention_layers": ("lsh",), "num_heads": 4, "head_dim": 32, "hidden_dim": 128,
         "intermediate_dim": 128, "num_hashes": 4, "lsh_chunk_length": 32, "axial_shape": None, "axial_dims": None,
         "initializer_range": 0.05, "dropout": 0.0}
TEXT = ("One layer of width 128, 4 heads, LSH attention with 4 rounds and chunks of 32; texts 0w0w of 256 symbols, "
        "drawn anew for each of 300 batches of 16; Adam, 0.003, falling to 0. Counted is the second w, given what "
        "stands before it, on 512 fresh texts. (Kitaev et al. 2020, table 2, publish 99.9 % for texts of 1,024.)")


def texts(rng, rows, length, symbols):
    """int32 (rows, length): 0w0w with w drawn from 1 .. symbols - 1."""
    import numpy as np

    words = rng.integers(1, symbols, (rows, length // 2 - 1))
    half = np.pad(words, ((0, 0), (1, 0)))
    return np.concatenate([half, half], axis=1).astype("int32")


def main():
    parser = bench.options(TITLE)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    args = parser.parse_args()
    started = bench.machine.describe()
    bench.use_checkout()
    import keras
    import numpy as np

    import kzoo

    length, steps, batch = ((TOY[name] for name in ("LENGTH", "STEPS", "BATCH")) if args.toy
                            else (LENGTH, STEPS, BATCH))
    keras.utils.set_random_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    model = kzoo.create("reformer-nano", task="text-generation", vocabulary_size=SYMBOLS, max_sequence_length=length,
                        num_buckets=length // 16, **SIZES)
    schedule = keras.optimizers.schedules.CosineDecay(RATE, steps)
    model.compile(optimizer=keras.optimizers.Adam(schedule), jit_compile=True,
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def batches():
        asked = (np.arange(length - 1) >= length // 2).astype("float32")  # the second w alone can be known
        while True:
            ids = texts(rng, batch, length, SYMBOLS)
            yield {"token_ids": ids}, np.roll(ids, -1, axis=1), np.tile(np.append(asked, 0), (batch, 1))

    history = model.fit(batches(), steps_per_epoch=max(steps // 10, 1), epochs=min(steps, 10), verbose=2)
    ids = texts(np.random.default_rng(10_000), 8 if args.toy else 512, length, SYMBOLS)
    said = model.predict({"token_ids": ids}, batch_size=32, verbose=0).argmax(axis=-1)
    right = 100 * float((said[:, length // 2:-1] == ids[:, length // 2 + 1:]).mean())
    table = [bench.rows.Row("loss at the end", [history.history["loss"][-1]], "nats a symbol"),
             bench.rows.Row("symbols that are right", [right], "%", ">= 99", f"{len(ids)} texts of {length}")]
    status = bench.finish(args, "duplication", TITLE, TEXT, table, bench.own_versions("keras"), started)
    print(f"{right:.2f}")
    return status


if __name__ == "__main__":
    sys.exit(main())

"""Beam search of the live model: what a sentence costs alone, and in a batch."""
import os
import sys
import time

import bench

TITLE = "Translating with beams: seconds a sentence, alone and in batches"
# Preset -> fields of its config.
MODELS = {"transformer-tiny": {"vocabulary_size": 10_000}, "transformer-base": {"vocabulary_size": 32_000}}
BATCHES, BEAMS, LENGTH, NEW_TOKENS = (1, 8, 32), 4, 24, 24
TOY = {"transformer-tiny": {"vocabulary_size": 50, "num_layers": 1, "hidden_dim": 8, "num_heads": 2,
                            "intermediate_dim": 8}}
TEXT = ("`model.generate` with {beams} beams, random weights in float32; {length} random source tokens a sentence and "
        "{new} target tokens, none of which ends it. Sentences of a batch are of one length. Encoder, cache and the "
        "bookkeeping of beams included; compiled and warm, in turns. Ratios are taken round by round.")


def seconds(model, sources, batch, new_tokens):
    """Of one sentence, over up to four batches of them."""
    repeats = max(1, min(4, len(sources) // batch))
    options = {"num_beams": BEAMS, "max_new_tokens": new_tokens, "eos_token_id": (), "forced_eos_token_id": None,
               "batch_tokens": 10**6}
    started = time.perf_counter()
    for repeat in range(repeats):
        found = model.generate(sources[repeat * batch:(repeat + 1) * batch], **options)
        assert all(len(ids) == new_tokens for ids in found)
    return (time.perf_counter() - started) / (repeats * batch)


def main():
    args = bench.options(TITLE, rounds=5).parse_args()
    started, table = bench.machine.describe(), []
    bench.use_checkout()
    os.environ.update(OMP_NUM_THREADS=str(args.threads), TF_NUM_INTRAOP_THREADS=str(args.threads))
    import keras
    import numpy as np

    import kzoo

    new_tokens = 3 if args.toy else NEW_TOKENS
    for preset, fields in (TOY if args.toy else MODELS).items():
        keras.utils.set_random_seed(0)
        model = kzoo.create(preset, **fields)
        sources = np.random.default_rng(0).integers(3, fields["vocabulary_size"], (max(BATCHES), LENGTH)).tolist()
        found = {batch: [] for batch in BATCHES}
        for done in range((1 if args.toy else args.rounds) + 1):
            for batch in BATCHES:
                value = seconds(model, sources, batch, new_tokens)
                if done:  # the first round compiles
                    found[batch].append(value)
        rows = {batch: bench.rows.Row(f"{preset}, batch {batch}", values, "s") for batch, values in found.items()}
        table += [*rows.values(), bench.rows.ratio(f"{preset}, batch {BATCHES[-1]} / batch 1", rows[BATCHES[-1]],
                                                   rows[1], "<= 0.25")]
    text = TEXT.format(beams=BEAMS, length=LENGTH, new=new_tokens)
    return bench.finish(args, "beam_translation", TITLE, text, table, bench.own_versions("keras", "tensorflow"),
                        started)


if __name__ == "__main__":
    sys.exit(main())

"""kzoo: `model.fit` as a user calls it ("fit"), or the optimizer and dataset of `kzoo train` ("train")."""
import sys

import keras
import shape

import kzoo

model = kzoo.create("gpt2-nano", vocabulary_size=shape.VOCABULARY, num_layers=shape.LAYERS, num_heads=shape.HEADS,
                    hidden_dim=shape.WIDTH, max_sequence_length=shape.LENGTH, dropout=0.0)
inputs, targets = shape.tokens()
if sys.argv[1] == "fit":
    model.compile(keras.optimizers.AdamW(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  jit_compile=True)
    shape.report(lambda: model.fit({"token_ids": inputs}, targets, batch_size=shape.BATCH, verbose=0))
else:
    import pathlib
    import tempfile

    from kzoo.training.trainer import train

    # A run of its own for each stretch would time the compilation; so the rate the run itself reports is taken, which
    # is that of training alone.
    folder = pathlib.Path(tempfile.mkdtemp())
    text = "".join(chr(32 + i) for i in inputs.reshape(-1))
    (folder / "text.txt").write_text(text)
    run = train("gpt2-nano", folder / "text.txt", folder / "run", tokenizer="character", overrides=dict(
        num_layers=shape.LAYERS, num_heads=shape.HEADS, hidden_dim=shape.WIDTH, max_sequence_length=shape.LENGTH,
        dropout=0.0), batch_size=shape.BATCH, steps=3 * shape.STEPS, interval=3 * shape.STEPS)
    print("RESULT", run.results["tokens_per_second"])

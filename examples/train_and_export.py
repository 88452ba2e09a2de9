"""Train a small GPT-2 with `model.fit`, then export it to ONNX and TFLite and check both files.

    python examples/train_and_export.py

The text is the source of a module of the Python standard library, so nothing is downloaded. It takes about a minute
and leaves `out/writer` (the run) and `out/writer-bundle` (the files to ship). Continue with load_and_generate.py.
"""
import pathlib
import textwrap

import keras
import numpy as np

import kzoo
from kzoo.export import export, verify

TEXT = pathlib.Path(textwrap.__file__).read_text(encoding="utf-8")
OUT = pathlib.Path("out")
LAYERS = 4
EPOCHS = 4
WINDOW = 64  # characters that the model sees at once
STRIDE = 8   # characters between the starts of two training windows

# Text to training windows: the target of each character is the character after it.
tokenizer = kzoo.train_tokenizer("character", [TEXT])
token_ids = np.array(tokenizer.encode(TEXT), "int32")
windows = np.lib.stride_tricks.sliding_window_view(token_ids, WINDOW + 1)[::STRIDE]  # (N, T + 1)
inputs, targets = {"token_ids": windows[:, :-1]}, windows[:, 1:]

# A preset with the fields that we want otherwise. The result is an ordinary keras.Model.
keras.utils.set_random_seed(0)
model = kzoo.create("gpt2-nano", task="text-generation", tokenizer=tokenizer, num_layers=LAYERS,
                    max_sequence_length=256, vocabulary_size=tokenizer.vocabulary_size, dropout=0.0)
model.compile(optimizer=keras.optimizers.AdamW(1e-3),
              loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(inputs, targets, batch_size=16, epochs=EPOCHS, verbose=2)

# One folder to go on with in Python, one with the files that run without TensorFlow.
kzoo.save(model, OUT / "writer", overwrite=True)
export(model, OUT / "writer-bundle", formats=("onnx", "tflite"), overwrite=True)

for row in verify(OUT / "writer-bundle").rows:
    print(f"{row['artifact']:8} {row['check']:40} {'passed' if row['passed'] else 'FAILED'}")

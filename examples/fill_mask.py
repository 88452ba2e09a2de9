"""Train a small BERT with `model.fit` to guess hidden words, and let it fill in some.

    python examples/fill_mask.py

The text is made of Unicode's CLDR data, which the `babel` package brings (pip install babel), so nothing is downloaded:
each line is a date and the day after, in one of four languages. It takes about a minute and leaves `out/masked`.

For text of your own, a .txt file does, and one call in the place of everything up to `fit`; what is hidden is then
drawn as BERT draws it. The run is what one goes on from when there are few labels (task="text-classification"):

    kzoo.train("bert-mini", "story.txt", "out/run", task="fill-mask", tokenizer="wordpiece", steps=20000)
"""
import datetime
import pathlib
import random

import keras
import numpy as np
from babel.dates import format_date

import kzoo

LANGUAGES = ("de", "en", "es", "fr")
LINES = 8000
HELD_OUT = 500
PASSES = 8    # over the lines; each hides other tokens
HIDDEN = 0.15  # of the tokens
LENGTH = 24
OUT = pathlib.Path("out/masked")
MASKED = ("Sunday, March 7, 2021 > [MASK], March 8, 2021", "Freitag, 1. [MASK] 2010 > Samstag, 2. Januar 2010",
          "lunes, 3 de mayo [MASK] 1999 > martes, 4 de mayo de 1999")

draw = random.Random(0)
lines = set()
while len(lines) < LINES:
    date = datetime.date(1990, 1, 1) + datetime.timedelta(days=draw.randrange(15_000))
    language = draw.choice(LANGUAGES)
    days = (date, date + datetime.timedelta(days=1))
    lines.add(" > ".join(format_date(day, "full", locale=language) for day in days))
lines = sorted(lines)
draw.shuffle(lines)

# Each line is a row of tokens, filled up with padding; special tokens are never hidden.
tokenizer = kzoo.train_tokenizer("wordpiece", lines, vocabulary_size=500)
rows = np.full((LINES, LENGTH), tokenizer.pad_id, "int32")                # (N, T)
for row, ids in zip(rows, tokenizer.encode_batch(lines), strict=True):
    row[:len(ids)] = ids[:LENGTH]
special = np.isin(rows, list(tokenizer.special_tokens.values()))


def hide(first, last):
    """(inputs, targets, weights): all tokens are targets, the hidden ones alone count."""
    chosen = (np.random.random((last - first, LENGTH)) < HIDDEN) & ~special[first:last]
    inputs = {"token_ids": np.where(chosen, tokenizer.mask_id, rows[first:last]),
              "padding_mask": rows[first:last] != tokenizer.pad_id}
    return inputs, rows[first:last], chosen.astype("float32")


keras.utils.set_random_seed(0)
model = kzoo.create("bert-tiny", task="fill-mask", tokenizer=tokenizer, vocabulary_size=tokenizer.vocabulary_size,
                    max_sequence_length=LENGTH, dropout=0.0, attention_dropout=0.0)
model.compile(optimizer=keras.optimizers.AdamW(1e-3), weighted_metrics=["accuracy"],
              loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
for _ in range(PASSES):
    inputs, targets, weights = hide(HELD_OUT, LINES)
    model.fit(inputs, targets, sample_weight=weights, batch_size=64, verbose=2)
kzoo.save(model, OUT, overwrite=True)

inputs, targets, weights = hide(0, HELD_OUT)
right = model.predict(inputs, batch_size=64, verbose=0).argmax(axis=-1) == targets
print(f"right for {100 * right[weights > 0].mean():.0f} % of the hidden tokens of {HELD_OUT} held-out lines")
for text in MASKED:
    guesses = ", ".join(f"{guess['token']} {guess['score']:.2f}" for guess in model(text, top_k=3)[0])
    print(f"{text}   {guesses}")

"""Train a small BERT to find dates, sums of money and places in sentences, and measure it.

    python examples/token_classification.py

The sentences are made of Unicode's CLDR data, which the `babel` package brings (pip install babel), so nothing is
downloaded. It takes about a minute and leaves `out/entities`.

For your own texts, give files of yours instead of TRAIN and TEST: a word and its tag a line, an empty line between
sentences, tags as here (B- begins a span, I- goes on with it, O is outside); or .jsonl with the lists `words`, `tags`.
Punctuation is a word of its own, as the model finds it in running text.
"""
import datetime
import pathlib
import random
import re

from babel import Locale
from babel.dates import format_date
from babel.numbers import format_currency

import kzoo

SENTENCES = (
    "On {date} we flew to {place}.", "The hotel in {place} cost {money}.", "She was born in {place} on {date}.",
    "From {place} to {place} it is {money}.", "They paid {money} on {date}.", "In {place} nobody paid.",
    "We met in May and ate 12 plums.", "The March to {place} began on {date} and cost {money}.",
    "On {date} he paid {money} in {place}.", "He and she, 30 years old, paid {money}.")
COUNT = 3000
HELD_OUT = 500
EPOCHS = 4
OUT = pathlib.Path("out/entities")
TRAIN, TEST = OUT / "train.txt", OUT / "test.txt"

draw = random.Random(0)
places = sorted(name for code, name in Locale("en").territories.items() if code.isalpha())


def make(kind):
    """A date, a sum of money or a place."""
    if kind == "place":
        return draw.choice(places)
    if kind == "money":
        return format_currency(draw.randrange(1, 100_000) / 100, draw.choice(("EUR", "USD", "JPY")), locale="en",
                               format_type=draw.choice(("standard", "name")))
    date = datetime.date(1950, 1, 1) + datetime.timedelta(days=draw.randrange(36_500))
    return format_date(date, draw.choice(("long", "medium", "short")), locale="en")


sentences = []
for _ in range(COUNT):
    lines = []
    for part in re.split(r"\{(\w+)\}", draw.choice(SENTENCES)):
        kind = part if part in ("date", "money", "place") else None
        for number, word in enumerate(re.findall(r"\w+|[^\w\s]", make(kind) if kind else part)):
            lines.append(f"{word}\t{'BI'[number > 0]}-{kind.upper()}\n" if kind else f"{word}\tO\n")
    sentences.append("".join(lines) + "\n")
OUT.mkdir(parents=True, exist_ok=True)
TEST.write_text("".join(sentences[:HELD_OUT]), encoding="utf-8")
TRAIN.write_text("".join(sentences[HELD_OUT:]), encoding="utf-8")

run = kzoo.train(
    "bert-tiny", TRAIN, OUT / "run", task="token-classification", tokenizer="wordpiece", vocabulary_size=1000,
    overrides={"max_sequence_length": 64}, epochs=EPOCHS, batch_size=16, learning_rate=1e-3, interval="epoch",
    overwrite=True)

metrics = kzoo.evaluate(run.model, TEST)
print(f"F1 {metrics['f1']:.3f} of the spans in {HELD_OUT} held-out sentences")
text = "On April 9, 2024 he paid 18.20 euros in Cape Verde."
print(text)
for found in run.model(text):
    print(f"  {found['label']:6} {found['score']:.2f}  {found['text']}")

"""Train a small Transformer to write English dates and sums of money in other languages, and measure it.

    python examples/translation.py

The pairs come from Unicode's CLDR, which the `babel` package brings (pip install babel), so nothing is downloaded. It
takes about a minute and leaves `out/translation`.

For your own texts, give two files with one sentence a line instead of TRAIN, source first, and two more to `evaluate`:

    kzoo.train("transformer-tiny", ["train.en", "train.de"], "out/run", task="translation", epochs=20, ...)
"""
import datetime
import pathlib
import random

from babel.dates import format_date
from babel.numbers import format_currency

import kzoo

LANGUAGES = ("de", "es", "fr", "it", "nl", "pl", "pt", "sv")
CURRENCIES = ("EUR", "USD", "GBP", "JPY", "CHF")
PAIRS = 20_000
HELD_OUT = 300
LAYERS = 2
STEPS = 600
WARMUP_STEPS = 100
OUT = pathlib.Path("out/translation")
TRAIN, TEST = OUT / "train.tsv", OUT / "test.tsv"

# A row is "de: Sunday, March 7, 2021<TAB>Sonntag, 7. März 2021"; the language asked for stands in front.
draw = random.Random(0)
rows = set()
while len(rows) < PAIRS:
    language = draw.choice(LANGUAGES)
    if draw.random() < 0.5:
        date = datetime.date(1950, 1, 1) + datetime.timedelta(days=draw.randrange(36_500))
        english, other = (format_date(date, "full", locale=locale) for locale in ("en", language))
    else:
        amount, currency = draw.randrange(1, 10 ** draw.randint(2, 7)) / 100, draw.choice(CURRENCIES)
        english, other = (format_currency(amount, currency, locale=locale, format_type="name")
                          for locale in ("en", language))
    rows.add(f"{language}: {english}\t{other}\n")
rows = sorted(rows)
draw.shuffle(rows)
OUT.mkdir(parents=True, exist_ok=True)
TRAIN.write_text("".join(rows[HELD_OUT:]), encoding="utf-8")
TEST.write_text("".join(rows[:HELD_OUT]), encoding="utf-8")

run = kzoo.train(
    "transformer-tiny", TRAIN, OUT / "run", task="translation", tokenizer="sentencepiece", vocabulary_size=700,
    overrides={"num_layers": LAYERS, "num_decoder_layers": LAYERS, "dropout": 0.0, "max_sequence_length": 64},
    steps=STEPS, batch_size=64, learning_rate=3e-3, warmup_steps=WARMUP_STEPS, validation_split=0.02, interval=200,
    overwrite=True)

metrics = kzoo.evaluate(run.model, TEST)
print(f"right to the letter: {metrics['exact_match']:.1f} % of {metrics['texts']} held-out texts")
for text in ("de: Sunday, March 7, 2021", "fr: Sunday, March 7, 2021", "es: 1,234.50 US dollars"):
    print(f"{text}  ->  {run.model(text)}")

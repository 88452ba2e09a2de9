"""Train a small Transformer to write the subject line of an invitation, and measure it.

    python examples/summarization.py

The messages are made of Unicode's CLDR data, which the `babel` package brings (pip install babel), so nothing is
downloaded. It takes about a minute and leaves `out/summaries`.

For your own texts, give files of yours instead of TRAIN and TEST: .tsv, .csv or .jsonl with columns `source` and
`target`. Long ones want a larger model (t5-small, say) and a checkpoint to go on from.
"""
import datetime
import pathlib
import random

from babel import Locale
from babel.dates import format_date
from babel.numbers import format_currency

import kzoo

OPENINGS = ("Dear all,", "Hello everybody,", "Hi,", "Good morning,")
EVENTS = ("workshop", "concert", "meeting", "race", "exhibition", "lecture")
SENTENCES = ("the {event} takes place in {place} .", "we begin on {date} .", "a ticket is {price} .")
FILLERS = ("Bring a friend .", "There will be coffee .", "Tell us if you cannot come .", "It is going to be fun .",
           "The weather is said to be fine .", "Children are welcome .")
SUBJECT = "{event} in {place} , {date}"
COUNT = 8000
HELD_OUT = 200
LAYERS = 2
STEPS = 900
WARMUP_STEPS = 100
OUT = pathlib.Path("out/summaries")
TRAIN, TEST = OUT / "train.tsv", OUT / "test.tsv"

draw = random.Random(0)
places = sorted(name for code, name in Locale("en").territories.items() if code.isalpha())
rows = []
for _ in range(COUNT):
    date = datetime.date(2000, 1, 1) + datetime.timedelta(days=draw.randrange(18_000))
    facts = {"event": draw.choice(EVENTS), "place": draw.choice(places), "date": format_date(date, "long", locale="en"),
             "price": format_currency(draw.randrange(1, 200), "EUR", locale="en")}
    sentences = [*SENTENCES, *draw.sample(FILLERS, 2)]
    draw.shuffle(sentences)
    rows.append(f"{draw.choice(OPENINGS)} {' '.join(sentences).format(**facts)}\t{SUBJECT.format(**facts)}\n")
OUT.mkdir(parents=True, exist_ok=True)
TEST.write_text("".join(rows[:HELD_OUT]), encoding="utf-8")
TRAIN.write_text("".join(rows[HELD_OUT:]), encoding="utf-8")

run = kzoo.train(
    "transformer-tiny", TRAIN, OUT / "run", task="summarization", tokenizer="sentencepiece", vocabulary_size=900,
    overrides={"num_layers": LAYERS, "num_decoder_layers": LAYERS, "dropout": 0.0, "max_sequence_length": 128},
    steps=STEPS, batch_size=32, learning_rate=3e-3, warmup_steps=WARMUP_STEPS, validation_split=0.02,
    interval=300, overwrite=True)

metrics = kzoo.evaluate(run.model, TEST)
print(", ".join(f"{name} {metrics[name]:.3f}" for name in ("rouge1", "rouge2", "rougeL")),
      f"on {metrics['texts']} held-out messages")
for row in rows[:2]:
    message = row.partition("\t")[0]
    print(f"{message}\n  ->  {run.model(message)}")

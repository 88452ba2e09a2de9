"""Train a small BERT to answer questions with a span of a text, and measure it.

    python examples/question_answering.py

The texts are made of Unicode's CLDR data, which the `babel` package brings (pip install babel), so nothing is
downloaded. It takes about a minute and leaves `out/questions`.

For your own texts, give files in the form of SQuAD (version 1.1) instead of TRAIN and TEST. Contexts may be longer than
the model: they are read in windows that overlap.
"""
import datetime
import json
import pathlib
import random

from babel import Locale
from babel.dates import format_date
from babel.numbers import format_currency

import kzoo

SENTENCES = ("On {when} {who} paid {price} for a room in {where}.",
             "In {where}, {who} bought a boat for {price} on {when}.",
             "{who} was in {where} on {when} and spent {price}.", "A ticket to {where} on {when} cost {who} {price}.")
QUESTIONS = {"who": ("Who paid?", "Who spent the money?"), "where": ("Where was it?", "In which country?"),
             "when": ("When was it?", "On which day?"), "price": ("How much was it?", "What was the price?")}
NAMES = ("Ada", "Alan", "Barbara", "Donald", "Edsger", "Frances", "Grace", "John", "Katherine", "Margaret", "Niklaus")
COUNT = 4000
HELD_OUT = 300
EPOCHS = 4
OUT = pathlib.Path("out/questions")
TRAIN, TEST = OUT / "train.json", OUT / "test.json"

draw = random.Random(0)
places = sorted(name for code, name in Locale("en").territories.items() if code.isalpha())
paragraphs = []
for number in range(COUNT):
    date = datetime.date(1950, 1, 1) + datetime.timedelta(days=draw.randrange(36_500))
    facts = {"who": draw.choice(NAMES), "where": draw.choice(places), "when": format_date(date, "long", locale="en"),
             "price": format_currency(draw.randrange(1, 100_000) / 100, "EUR", locale="en")}
    context = draw.choice(SENTENCES).format(**facts)
    kind = draw.choice(list(QUESTIONS))
    answer = {"text": facts[kind], "answer_start": context.index(facts[kind])}
    paragraphs.append({"context": context, "qas": [
        {"id": str(number), "question": draw.choice(QUESTIONS[kind]), "answers": [answer]}]})
OUT.mkdir(parents=True, exist_ok=True)
for path, chosen in ((TEST, paragraphs[:HELD_OUT]), (TRAIN, paragraphs[HELD_OUT:])):
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "made", "paragraphs": chosen}]}), encoding="utf-8")

run = kzoo.train(
    "bert-tiny", TRAIN, OUT / "run", task="question-answering", tokenizer="wordpiece", vocabulary_size=1000,
    overrides={"max_sequence_length": 96}, epochs=EPOCHS, batch_size=16, learning_rate=1e-3, interval="epoch",
    overwrite=True)

metrics = kzoo.evaluate(run.model, TEST)
print(f"exact match {metrics['exact_match']:.1f}, F1 {metrics['f1']:.1f} on {metrics['questions']} held-out questions")
context = "On May 17, 1983 Grace paid €42.50 for a room in Cape Verde."
for question in ("Where was it?", "How much was it?", "When was it?"):
    answer = run.model(question=question, context=context)
    print(f"{question:18} {answer['answer']}  ({answer['score']:.2f})")

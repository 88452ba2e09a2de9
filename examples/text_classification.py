"""Train a small BERT to tell which package of the standard library a text is about, and measure it.

    python examples/text_classification.py

The texts are paragraphs of the docstrings of the Python that runs this, so nothing is downloaded. It takes about a
minute and leaves `out/classification`; feature_extraction.py goes on with it.

For your own texts, give files of yours instead of TRAIN and TEST: .tsv, .csv or .jsonl with a column `text` and a
column `label` (or say which they are: columns="text=review,label=stars").
"""
import ast
import pathlib
import random
import re
import sysconfig

import kzoo

PACKAGES = ("asyncio", "email", "importlib", "logging", "xml")
HELD_OUT = 0.2  # of the texts
EPOCHS = 6
OUT = pathlib.Path("out/classification")
TRAIN, TEST = OUT / "train.tsv", OUT / "test.tsv"

rows = []
for package in PACKAGES:
    for path in sorted((pathlib.Path(sysconfig.get_path("stdlib")) / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                    text = " ".join(paragraph.split())
                    if 30 < len(text) < 300:
                        rows.append(f"{text}\t{package}\n")
rows = sorted(set(rows))
random.Random(0).shuffle(rows)
OUT.mkdir(parents=True, exist_ok=True)
TEST.write_text("".join(rows[:int(HELD_OUT * len(rows))]), encoding="utf-8")
TRAIN.write_text("".join(rows[int(HELD_OUT * len(rows)):]), encoding="utf-8")

run = kzoo.train(
    "bert-tiny", TRAIN, OUT / "run", task="text-classification", tokenizer="wordpiece", vocabulary_size=4000,
    overrides={"max_sequence_length": 64}, truncate="end", epochs=EPOCHS, batch_size=16, learning_rate=1e-3,
    interval="epoch", overwrite=True)

metrics = kzoo.evaluate(run.model, TEST, truncate=True)
print(f"accuracy {metrics['accuracy']:.3f}, macro F1 {metrics['macro_f1']:.3f} on {metrics['texts']} held-out texts")
for text in ("Wait until the task is cancelled.", "Parse the header of a message.", "Emit a record to the handler."):
    answer = run.model(text)
    print(f"{answer['label']:10} {answer['score']:.2f}  {text}")

"""Search texts by meaning: vectors of a trained model, compared by their angle.

    python examples/text_classification.py     # leaves the model
    python examples/feature_extraction.py

For your own texts, load any run or Hugging Face folder of an encoder with task="feature-extraction", and give the
texts as a list.
"""
import pathlib
import sys

import numpy as np

import kzoo

OUT = pathlib.Path("out/classification")
QUERIES = ("wait for several tasks at once", "read the parts of an e-mail", "write log records into a file")
SHOWN = 3  # texts a query

if not (OUT / "run").is_dir():
    sys.exit(f"{OUT / 'run'} is missing. Run examples/text_classification.py here first: it leaves the model.")

# The head that told packages apart stays behind; the features are the mean of the backbone's states, of length 1.
model = kzoo.load(OUT / "run", task="feature-extraction", pooling="mean", normalize=True)

lines = (OUT / "test.tsv").read_text(encoding="utf-8").splitlines()
texts, packages = zip(*(line.split("\t") for line in lines), strict=True)
features = np.stack(model(list(texts), truncate=True))    # (N, E)
for query in QUERIES:
    nearness = features @ model(query)                    # (N,), the cosine
    print(query)
    for index in np.argsort(-nearness)[:SHOWN]:
        print(f"  {nearness[index]:.2f}  {packages[index]:10}  {texts[index][:80]}")

metrics = kzoo.evaluate(model, OUT / "test.tsv", truncate=True)
print(f"the nearest other text is about the same package for {100 * metrics['accuracy']:.0f} % of {metrics['texts']}")

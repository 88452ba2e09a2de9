"""How often a model is traced in a training run whose texts have many lengths.

usage: count_traces.py FOLDER

Prints a JSON line: the number of different lengths, of shapes, of steps, and of traces.
"""
import json
import pathlib
import random
import sys

import keras

from kzoo.models import BertBackbone
from kzoo.training import fitting, trainer

folder = pathlib.Path(sys.argv[1])
SIZES = {"num_layers": 1, "num_heads": 2, "hidden_dim": 6, "intermediate_dim": 7, "max_sequence_length": 64}
JIT = "on" if keras.backend.backend() == "jax" else "off"  # TensorFlow traces alike with and without, and is quicker so
STEPS = 24
generator, traces, found = random.Random(1), [], {}
rows = ["a " * generator.randint(1, 60) for _ in range(150)]
(folder / "data.tsv").write_text("".join(f"{row}\t{len(row) // 2 % 2}\n" for row in rows))

forward, fit = BertBackbone.forward, fitting.fit


def counting(self, inputs, cache=None, training=None):
    traces.append(inputs["token_ids"].shape)
    return forward(self, inputs, cache, training)


def looking(model, data, *arguments):
    found["shapes"] = data.num_shapes
    traces.clear()  # what was traced to build the model
    return fit(model, data, *arguments)


BertBackbone.forward = counting
trainer.fit = looking
trainer.train("bert-tiny", folder / "data.tsv", folder / "run", "text-classification", jit=JIT, vocabulary_size=20,
              steps=STEPS, interval=12, batch_size=4, length_buckets=2, overrides=SIZES)
print(json.dumps({**found, "lengths": len(set(map(len, rows))), "steps": STEPS, "traces": len(traces)}))

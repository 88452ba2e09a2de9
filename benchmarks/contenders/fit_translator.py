"""Training steps of Transformer-Tiny: python fit_translator.py SPEC; the parts named in it are those of Keras."""
import json
import sys
import time

import keras
import numpy as np
from keras import ops
from serving import serve

import kzoo
from kzoo.training.losses import TokenCrossEntropy, weighted_arguments

spec = json.loads(sys.argv[1])


def differentiated_by_the_backend(self, targets, logits):
    """The same loss of Keras' function and plain operations."""
    right = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    logit = ops.take_along_axis(logits, ops.expand_dims(targets, -1), axis=-1)[..., 0]
    return right + self.label_smoothing * (logit - ops.mean(logits, axis=-1))


if "dropout" in spec["keras"]:
    kzoo.layers.Dropout.call = keras.layers.Dropout.call
if "loss" in spec["keras"]:
    TokenCrossEntropy.call = differentiated_by_the_backend
model = kzoo.create("transformer-tiny", task="translation", **spec["fields"])
rng = np.random.default_rng(0)
model.compile(optimizer=keras.optimizers.AdamW(1e-4), jit_compile=spec["jit"], **weighted_arguments(0.1))


def batch(rows, length):
    source, decoder, targets = rng.integers(4, model.config.vocabulary_size, (3, rows, length)).astype("int32")
    mask = np.ones((rows, length), bool)
    return {"encoder_token_ids": source, "encoder_padding_mask": mask, "decoder_token_ids": decoder,
            "decoder_padding_mask": mask}, targets, mask / np.float32(mask.size)


batches = [batch(rows, length) for rows, length in spec["shapes"]]


def measure():
    """Seconds a step, over batches of all shapes in turn."""
    start = time.perf_counter()
    for _ in range(spec["steps"]):
        for each in batches:
            model.train_on_batch(*each)
    return {"seconds": (time.perf_counter() - start) / spec["steps"] / len(batches)}


measure()
serve("kzoo's environment", ["keras", "tensorflow", "numpy"], measure)

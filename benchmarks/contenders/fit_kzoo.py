"""kzoo's GPT-2 trained by a plain `model.fit`, as fit_keras_hub.py trains KerasHub's: python fit_kzoo.py JIT SIZES"""
import sys

import fitting
import keras
from serving import serve

import kzoo

sizes = fitting.read_sizes(sys.argv[2])
model = kzoo.create("gpt2-nano", vocabulary_size=sizes.vocabulary, num_layers=sizes.layers, num_heads=sizes.heads,
                    hidden_dim=sizes.width, max_sequence_length=sizes.block, dropout=0.0)
inputs, targets = fitting.windows(sizes)
measure = fitting.keras_measure(model, {"token_ids": inputs}, targets, sizes, jit=sys.argv[1] == "xla")
serve("kzoo's environment", ["keras", "tensorflow", "numpy"], measure, parameters=model.count_params(),
      backend=keras.backend.backend())

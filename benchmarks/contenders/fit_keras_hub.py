"""KerasHub's GPT-2 trained by `model.fit`: python fit_keras_hub.py JIT SIZES"""
import sys

import fitting
import keras_hub
import numpy as np
from serving import serve

sizes = fitting.read_sizes(sys.argv[2])
backbone = keras_hub.models.GPT2Backbone(
    vocabulary_size=sizes.vocabulary, num_layers=sizes.layers, num_heads=sizes.heads, hidden_dim=sizes.width,
    intermediate_dim=4 * sizes.width, dropout=0.0, max_sequence_length=sizes.block)
model = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)
inputs, targets = fitting.windows(sizes)
features = {"token_ids": inputs, "padding_mask": np.ones_like(inputs)}  # it asks for both
measure = fitting.keras_measure(model, features, targets, sizes, jit=sys.argv[1] == "xla")
serve("KerasHub's environment", ["keras", "keras-hub", "tensorflow", "numpy"], measure,
      parameters=model.count_params())

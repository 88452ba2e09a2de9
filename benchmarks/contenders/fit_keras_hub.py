"""KerasHub's GPT-2 with `model.fit`; argument 1: with XLA."""
import sys

import keras
import keras_hub
import numpy as np
import shape

backbone = keras_hub.models.GPT2Backbone(
    vocabulary_size=shape.VOCABULARY, num_layers=shape.LAYERS, num_heads=shape.HEADS, hidden_dim=shape.WIDTH,
    intermediate_dim=4 * shape.WIDTH, dropout=0.0, max_sequence_length=shape.LENGTH)
model = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)
model.compile(optimizer=keras.optimizers.AdamW(1e-3), jit_compile=sys.argv[1] == "1",
              loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
inputs, targets = shape.tokens()
data = {"token_ids": inputs, "padding_mask": np.ones_like(inputs)}
shape.report(lambda: model.fit(data, targets, batch_size=shape.BATCH, verbose=0))

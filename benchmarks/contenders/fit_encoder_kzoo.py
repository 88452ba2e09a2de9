"""kzoo's BERT or Transformer trained by a plain `model.fit`: python fit_encoder_kzoo.py KIND SIZES"""
import sys

import fitting
import fitting_encoders
import keras
from serving import serve

import kzoo

kind, sizes = sys.argv[1], fitting.read_sizes(sys.argv[2])
fields = {"vocabulary_size": sizes.vocabulary, "num_layers": sizes.layers, "num_heads": sizes.heads,
          "hidden_dim": sizes.width, "intermediate_dim": 4 * sizes.width, "max_sequence_length": max(512, sizes.block),
          "dropout": sizes.dropout}
if kind == "encoder":
    model = kzoo.create("bert-base", task="text-classification", labels=("no", "yes"), **fields,
                        attention_dropout=sizes.dropout)  # by default 0.1, as published
    inputs, targets = fitting_encoders.encoder_inputs(sizes)
else:
    model = kzoo.create("transformer-base", task="translation", num_decoder_layers=sizes.layers, **fields)
    inputs, targets = fitting_encoders.seq2seq_inputs(sizes)
measure = fitting.keras_measure(model, inputs, targets, sizes, jit=True)
serve("kzoo's environment", ["keras", "tensorflow", "numpy"], measure, parameters=model.count_params(),
      backend=keras.backend.backend())

"""KerasHub's BERT, or its BART in the place of a Transformer: python fit_encoder_keras_hub.py KIND SIZES"""
import sys

import fitting
import fitting_encoders
import keras_hub
from serving import serve

kind, sizes = sys.argv[1], fitting.read_sizes(sys.argv[2])
fields = {"vocabulary_size": sizes.vocabulary, "num_layers": sizes.layers, "num_heads": sizes.heads,
          "hidden_dim": sizes.width, "intermediate_dim": 4 * sizes.width, "max_sequence_length": max(512, sizes.block),
          "dropout": sizes.dropout}
if kind == "encoder":
    model = keras_hub.models.BertTextClassifier(backbone=keras_hub.models.BertBackbone(**fields), num_classes=2,
                                                dropout=sizes.dropout, preprocessor=None)
    inputs, targets = fitting_encoders.encoder_inputs(sizes)
else:
    model = keras_hub.models.BartSeq2SeqLM(backbone=keras_hub.models.BartBackbone(**fields), preprocessor=None)
    inputs, targets = fitting_encoders.seq2seq_inputs(sizes)
measure = fitting.keras_measure(model, inputs, targets, sizes, jit=True)
serve("KerasHub's environment", ["keras", "keras-hub", "tensorflow", "numpy"], measure,
      parameters=model.count_params())

"""What the tests of encoder tasks share: a tiny model with redrawn weights, and inputs with padding on both sides."""
import pathlib

import numpy as np
from keras import ops

import kzoo
from kzoo.tokenizers import load_tokenizer

TOKENIZER = load_tokenizer(pathlib.Path(__file__).parents[1] / "fixtures" / "tokenizers" / "wordpiece")
B, T, E, V = 3, 7, 12, 223  # the vocabulary has a few ids less, as padded embeddings do
rng = np.random.default_rng(0)
TOKEN_IDS = rng.integers(5, V, (B, T)).astype("int32")
PADDING_MASK = np.array([[True] * 7, [True] * 4 + [False] * 3, [False] * 2 + [True] * 5])
INPUTS = {"token_ids": TOKEN_IDS, "padding_mask": PADDING_MASK}


def make(task, redrawn=True, **changes):
    """A model of one layer whose weights are all drawn anew, so that none is zero or one."""
    sizes = dict(vocabulary_size=V, num_layers=1, num_heads=3, hidden_dim=E, intermediate_dim=17,
                 max_sequence_length=32, dropout=0.0, attention_dropout=0.0, tokenizer=TOKENIZER)
    model = kzoo.create("bert-tiny", task=task, **{**sizes, **changes})
    if redrawn:
        draw = np.random.default_rng(1)
        model.set_weights([draw.normal(weight.name == "scale", 0.3, weight.shape) for weight in model.weights])
    return model


def hidden_states(model, inputs=INPUTS):
    return ops.convert_to_numpy(model.backbone(inputs))


def weights(layer):
    """A layer's arrays, in the order in which it made them."""
    return [ops.convert_to_numpy(weight) for weight in layer.weights]


def outputs_for(model, text):
    """What the model says of one text, by its ids; a row as long as the model reads, which is one shape to compile."""
    ids = TOKENIZER.encode(text)
    inputs = {"token_ids": np.full((1, 32), 7, "int32"), "padding_mask": np.arange(32)[None] < len(ids)}
    inputs["token_ids"][0, :len(ids)] = ids
    result = ops.convert_to_numpy(model(inputs))[0]
    return result[:len(ids)] if result.ndim > 1 else result


def softmax(logits):
    values = np.exp(np.asarray(logits, "float64"))
    return values / values.sum(axis=-1, keepdims=True)


def gelu(x):
    """Exact, by the error function of the standard library."""
    import math

    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

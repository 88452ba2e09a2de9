"""`explain`: what a model's answer to a text came from."""
import contextlib
import dataclasses
import itertools
import pathlib

import numpy as np

from kzoo.explanation_reading import read, token_text
from kzoo.files import write_atomic

# Steps of the integral, and how much of the change of the answer they may miss before they are doubled.
STEPS, MOST_STEPS, GAP = 16, 256, 0.01
BATCH = 16  # points of the integral computed together
TOKENS = 8192  # whose features are looked up together


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What `explain` found. Neither attention nor gradients are the reason of an answer; they show where to look.

    Attributes:
        text: what was read.
        tokens: T strings; of a translator or summarizer those of the source, then those of the answer so far.
        question: what is explained, in words.
        answer: the text or label that the model gives, which is explained.
        score: its log-probability, in nats.
        layers: path of each attention layer.
        attention: float32 (L, H, T, T), rows sum to 1: how much each token attends to each. A layer of an encoder has
            no part of the answer's tokens, one of a decoder none of the source's: these stay what they are, 1 on the
            diagonal. So it is one decoder layer's attention to the answer that has a map, and its attention to the
            source another.
        rollout: float32 (T, T), see `kzoo.layers.looking.attention_rollout`.
        position: the token at which the answer stands; None for one that is of the whole text.
        attribution: float32 (T,), integrated gradients: how much of `score` - `baseline_score` is due to each token.
        baseline_score: what the score is if every token has the mean features of all.
        gap: by how much the attributions miss that difference.
        steps: of the integral.
    """
    text: str
    tokens: tuple
    question: str
    answer: str
    score: float
    layers: tuple
    attention: np.ndarray
    rollout: np.ndarray
    position: int | None
    attribution: np.ndarray
    baseline_score: float
    gap: float
    steps: int

    def to_html(self):
        """A page of its own, without a network, on which a reader points at tokens."""
        from kzoo.explanation_page import render_explanation

        return render_explanation(self)

    def save_html(self, path):
        """Write the page to a file."""
        write_atomic(pathlib.Path(path), self.to_html())


def explain(model, text, position=None, answer=None):
    """Attention maps, attention rollout and integrated gradients of a model's answer to a text.

    Args:
        model: a model with a tokenizer, for text-generation (its next token is explained), fill-mask (the token behind
            the first mask), text-classification (the label), token-classification (the label of a token), translation
            or summarization (a token of what the model writes, from the source and what it wrote before), or
            question-answering (where the answer begins and ends).
        text: what the model reads; of question-answering a dict of `question` and `context`.
        position: of token-classification, the number of the token, special ones included, None meaning the surest one;
            of translation and summarization, that of the answer's token, None meaning the first.
        answer: the token or label whose log-probability is explained; None means the likeliest.

    Returns: Explanation.
    Raises: ValueError for another task, a text that the model cannot read, or an answer that it does not have.
    Source: rollout: Abnar and Zuidema 2020 (arXiv 2005.00928); integrated gradients: Sundararajan et al. 2017, equation
        1 (arXiv 1703.01365), from the mean embedding of all tokens, positions left as they are, by Gauss and Legendre's
        rule. (From zeros there is nothing to integrate where a norm comes first: it makes the same of any length.)
    """
    from keras import ops

    from kzoo.layers.looking import attention_rollout, watched
    from kzoo.models.base import check_inputs

    reading = read(model, text, position, answer)
    inputs = check_inputs(reading.inputs(), tuple(reading.rows))
    with watched(model) as maps:  # the backbone, not the model, which may want the state of one token alone
        model.backbone.forward(model.backbone.complete_inputs(inputs, model.task))
    if not maps:
        raise ValueError("The model has no attention layer that shows whom it attends to.")
    attention = np.stack([_among_all_tokens(each, model.backbone, [len(row) for row in reading.rows.values()])
                          for each in maps])
    found, steps = _integrated_gradients(model, reading)
    return Explanation(
        text=reading.text, tokens=tuple(token_text(model.tokenizer, index) for index in reading.ids()),
        question=reading.question, answer=reading.answer, layers=tuple(each.path for each in maps),
        attention=attention, rollout=ops.convert_to_numpy(attention_rollout(list(attention))),
        position=reading.position, steps=steps, **found)


def _among_all_tokens(found, backbone, lengths):
    """An `AttentionMap` as float32 (H, T, T) over the tokens of all rows, of which there are one or two."""
    from keras import ops

    from kzoo.layers.looking import layer_path

    probabilities = ops.convert_to_numpy(ops.cast(found.probabilities[0], "float32"))
    before, after = 0, 0  # tokens in front of the layer's queries, and of its keys
    if len(lengths) == 2:
        own, cross = ({layer_path(getattr(block, name).query) for block in backbone.decoder_blocks}
                      for name in ("attention", "cross_attention"))
        before = lengths[0] if found.path in own | cross else 0
        after = lengths[0] if found.path in own else 0
    queries, keys = lengths[bool(before)], lengths[bool(after)]
    whole = np.tile(np.eye(sum(lengths), dtype="float32"), (len(probabilities), 1, 1))
    whole[:, before:before + queries] = 0
    # A model may fill rows up by itself, behind the tokens.
    whole[:, before:before + queries, after:after + keys] = probabilities[:, :queries, :keys]
    return whole


def _integrated_gradients(model, reading):
    """(dict of what `Explanation` calls it, steps)."""
    from keras import ops

    from kzoo.backend import differentiate

    layers, rows = model.backbone.token_embeddings(), reading.rows.values()
    embedded = np.concatenate([_features(layer, row) for layer, row in zip(layers, rows, strict=True)])    # (T, E)
    nothing = np.concatenate([np.tile(_mean_features(layer), (len(row), 1))
                              for layer, row in zip(layers, rows, strict=True)])                           # (T, E)
    ends = np.cumsum([0, *map(len, rows)]).tolist()

    def scores(features):
        """float32 (N,) of embeddings (N, T, E)."""
        features = ops.cast(features, layers[0].compute_dtype)
        with _given_embeddings(layers, [features[:, first:end] for first, end in itertools.pairwise(ends)]):
            return reading.log_probability(model(reading.inputs(features.shape[0])))

    baseline, score = ops.convert_to_numpy(scores(ops.convert_to_tensor(np.stack([nothing, embedded]))))
    steps = STEPS
    while True:
        points, weights = np.polynomial.legendre.leggauss(steps)
        points, weights = ((points + 1) / 2).astype("float32"), (weights / 2).astype("float32")  # on 0 to 1
        total = np.zeros_like(embedded)
        for first in range(0, steps, BATCH):
            some = slice(first, first + BATCH)
            along = ops.convert_to_tensor(nothing + points[some, None, None] * (embedded - nothing))
            _, pull = differentiate(scores, along)
            total += ops.convert_to_numpy(pull(ops.convert_to_tensor(weights[some]))[0]).sum(axis=0)
        attribution = (total * (embedded - nothing)).sum(axis=-1)
        gap = float(abs(attribution.sum() - (score - baseline)))
        if gap <= GAP * max(1.0, abs(float(score - baseline))) or steps >= MOST_STEPS:
            found = {"score": float(score), "baseline_score": float(baseline), "attribution": attribution, "gap": gap}
            return found, steps
        steps *= 2


def _features(layer, token_ids):
    """float32 (T, E)."""
    from keras import ops

    return ops.convert_to_numpy(ops.cast(layer(np.array([token_ids], "int32")), "float32"))[0]


def _mean_features(layer):
    """Of all tokens: float32 (E,)."""
    total = 0.0
    for first in range(0, layer.vocabulary_size, TOKENS):
        total += _features(layer, range(first, min(first + TOKENS, layer.vocabulary_size))).sum(axis=0)
    return (total / layer.vocabulary_size).astype("float32")


@contextlib.contextmanager
def _given_embeddings(layers, features):
    """Within it, each of these layers answers with its features (N, T, E), whatever the tokens are; one that is there
    twice with the first, then with the second."""
    left = list(zip(layers, features, strict=True))

    def give(layer):
        def call(token_ids):
            number = next(i for i, (each, _) in enumerate(left) if each is layer)
            found = left.pop(number)[1]
            filled_up = token_ids[:, found.shape[1]:]  # by the model itself
            if not filled_up.shape[1]:
                return found
            return ops.concatenate([found, ops.cast(type(layer).call(layer, filled_up), found.dtype)], axis=1)

        return call

    from keras import ops

    try:
        for layer in layers:  # past Keras, which would track it
            object.__setattr__(layer, "call", give(layer))
        yield
    finally:
        for layer in set(layers):
            object.__delattr__(layer, "call")

"""`explain`: what a model's answer to a text came from."""
import contextlib
import dataclasses
import pathlib

import numpy as np

from kzoo.files import write_atomic

# Steps of the integral, and how much of the change of the answer they may miss before they are doubled.
STEPS, MOST_STEPS, GAP = 16, 256, 0.01
BATCH = 16  # points of the integral computed together
TASKS = ("text-generation", "fill-mask", "text-classification", "token-classification")


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What `explain` found. Neither attention nor gradients are the reason of an answer; they show where to look.

    Attributes:
        text: what was read.
        tokens: T strings.
        question: what is explained, in words.
        answer: the text or label that the model gives, which is explained.
        score: its log-probability, in nats.
        layers: path of each attention layer.
        attention: float32 (L, H, T, T), rows sum to 1: how much each token attends to each.
        rollout: float32 (T, T), see `kzoo.layers.looking.attention_rollout`.
        position: the token at which the answer stands; None for one that is of the whole text.
        attribution: float32 (T,), integrated gradients: how much of `score` - `baseline_score` is due to each token.
        baseline_score: what the score is without any token's features.
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
            the first mask), text-classification (the label) or token-classification (the label of a token).
        position: of token-classification, the number of the token, special ones included; None means the surest one.
        answer: the token or label whose log-probability is explained; None means the likeliest.

    Returns: Explanation.
    Raises: ValueError for another task, a text that the model cannot read, or an answer that it does not have.
    Source: rollout: Abnar and Zuidema 2020 (arXiv 2005.00928); integrated gradients: Sundararajan et al. 2017, equation
        1 (arXiv 1703.01365), from the embedding of no token (zeros), positions left as they are, by Gauss and
        Legendre's rule.
    """
    from keras import ops

    from kzoo.layers.looking import attention_rollout, watched
    from kzoo.models.base import check_inputs

    if getattr(model, "task", None) not in TASKS:
        raise ValueError(f"`explain` reads models of the tasks {', '.join(TASKS)}. "
                         f"The model's task is {getattr(model, 'task', None)!r}.")
    ids = _token_ids(model, text)
    inputs = {"token_ids": np.array([ids], "int32")}
    with watched(model) as maps:  # the backbone, not the model, which may want the state of one token alone
        model.backbone.forward(model.backbone.complete_inputs(check_inputs(inputs), model.task))
    if not maps:
        raise ValueError("The model has no attention layer that shows whom it attends to.")
    # A model may fill rows up by itself, behind the tokens.
    attention = np.stack([ops.convert_to_numpy(ops.cast(each.probabilities[0], "float32"))[:, :len(ids), :len(ids)]
                          for each in maps])
    target = _Target.choose(model, ids, ops.convert_to_numpy(model(inputs))[0], position, answer)
    found, steps = _integrated_gradients(model, ids, target)
    return Explanation(
        text=text, tokens=tuple(_token_text(model.tokenizer, index) for index in ids), question=target.question,
        answer=target.answer, layers=tuple(each.path for each in maps), attention=attention,
        rollout=ops.convert_to_numpy(attention_rollout(list(attention))), position=target.position, steps=steps,
        **found)


@dataclasses.dataclass(frozen=True)
class _Target:
    """Which number is explained: the log-probability of class `index`, at a position or of the whole text."""
    question: str
    answer: str
    position: int | None
    index: int

    @classmethod
    def choose(cls, model, ids, logits, position, answer):
        """By the logits (T, V), (T, N) or (N,) of one text."""
        labels = model.settings().get("labels")
        if position is not None and model.task != "token-classification":
            raise ValueError(f"`position` is for token-classification. The model's task is {model.task!r}.")
        if position is not None and not 0 <= position < len(ids):
            raise ValueError(f"`position` must be at least 0 and below {len(ids)}. Received: {position}.")
        if model.task == "text-generation":
            position, question = len(ids) - 1, "The next token"
        elif model.task == "fill-mask":
            position, question = ids.index(model.tokenizer.mask_id), "The token behind the mask"
        elif model.task == "token-classification":
            if position is None:
                position = int(_log_softmax(logits).max(axis=-1).argmax())
            question = f"The label of {_token_text(model.tokenizer, ids[position])!r}"
        else:
            question = "The label"
        row = logits if position is None else logits[position]
        index = int(row.argmax()) if answer is None else _index_of(model, labels, answer)
        return cls(question, labels[index] if labels else _token_text(model.tokenizer, index), position, index)


def _index_of(model, labels, answer):
    if labels is not None:
        if answer not in labels:
            raise ValueError(f"`answer` must be one of the labels {', '.join(labels)}. Received: {answer!r}.")
        return labels.index(answer)
    ids = model.tokenizer.encode(answer, add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(f"`answer` must be one token; {answer!r} is {len(ids)}.")
    return ids[0]


def _integrated_gradients(model, ids, target):
    """(dict of what `Explanation` calls it, steps)."""
    from keras import ops

    from kzoo.backend import differentiate

    table = model.backbone.token_embedding
    embedded = ops.convert_to_numpy(ops.cast(table(np.array([ids], "int32")), "float32"))        # (1, T, E)

    def scores(features):
        """float32 (N,) of embeddings (N, T, E)."""
        with _given_embeddings(model.backbone, ops.cast(features, table.compute_dtype)):
            logits = model({"token_ids": np.tile(np.array([ids], "int32"), (features.shape[0], 1))})
        logits = ops.cast(logits if target.position is None else logits[:, target.position], "float32")
        return ops.log_softmax(logits, axis=-1)[:, target.index]

    baseline, score = ops.convert_to_numpy(scores(ops.convert_to_tensor(np.concatenate([0 * embedded, embedded]))))
    steps = STEPS
    while True:
        points, weights = np.polynomial.legendre.leggauss(steps)
        points, weights = ((points + 1) / 2).astype("float32"), (weights / 2).astype("float32")  # on 0 to 1
        total = np.zeros_like(embedded[0])
        for first in range(0, steps, BATCH):
            some = slice(first, first + BATCH)
            along = ops.convert_to_tensor(points[some, None, None] * embedded)
            _, pull = differentiate(scores, along)
            total += ops.convert_to_numpy(pull(ops.convert_to_tensor(weights[some]))[0]).sum(axis=0)
        attribution = (total * embedded[0]).sum(axis=-1)
        gap = float(abs(attribution.sum() - (score - baseline)))
        if gap <= GAP * max(1.0, abs(float(score - baseline))) or steps >= MOST_STEPS:
            found = {"score": float(score), "baseline_score": float(baseline), "attribution": attribution, "gap": gap}
            return found, steps
        steps *= 2


@contextlib.contextmanager
def _given_embeddings(backbone, features):
    """Within it, the backbone's embedding of tokens answers with these features, whatever the tokens are."""
    real = backbone.token_embedding
    try:
        object.__setattr__(backbone, "token_embedding", _Given(real, features))
        yield
    finally:
        object.__setattr__(backbone, "token_embedding", real)


class _Given:
    """An embedding that was computed elsewhere; reads out logits as the real one does."""

    def __init__(self, real, features):
        self._real, self._features = real, features
        self.logits = real.logits
        self.embeddings = real.embeddings

    def __call__(self, token_ids):
        from keras import ops

        filled_up = token_ids[:, self._features.shape[1]:]  # by the model itself
        if not filled_up.shape[1]:
            return self._features
        return ops.concatenate([self._features, ops.cast(self._real(filled_up), self._features.dtype)], axis=1)


def _token_ids(model, text):
    """list of int, as the task reads a text."""
    from kzoo.tasks.answering import add_special_tokens, check_tokenizer

    check_tokenizer(model)
    if not isinstance(text, str):
        raise TypeError(f"`text` must be a text. Received: {type(text).__name__}.")
    if model.task == "text-generation":
        from kzoo.tasks.prompts import read_inputs, with_tokens

        return with_tokens(read_inputs(text, model.tokenizer).ids, model.tokenizer)[0]
    marked = model.task == "fill-mask"
    if marked and model.tokenizer.mask_id is None:
        raise ValueError("The tokenizer has no mask token, so there is nothing to explain.")
    encoding = model.tokenizer.encode_with_offsets(text, recognise_special_tokens=True if marked else None)
    ids = add_special_tokens(_Limits(model.tokenizer, model.config.max_sequence_length), [encoding.ids])[0]
    if marked and model.tokenizer.mask_id not in ids:
        raise ValueError(f"The text holds no {model.tokenizer.roles['mask']} to fill in. Received: {text!r:.200}.")
    return ids


@dataclasses.dataclass(frozen=True)
class _Limits:
    """What `add_special_tokens` asks a model."""
    tokenizer: object
    max_sequence_length: int | None


def _token_text(tokenizer, index):
    """How a token is shown."""
    return tokenizer.decode([int(index)]) or tokenizer.id_to_token(int(index))


def _log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))

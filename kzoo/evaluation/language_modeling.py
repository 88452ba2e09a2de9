"""How well a model predicts text: loss, perplexity and bits per character.

The text is cut into windows of T tokens that do not overlap, the last one shorter. Every token but the first is
predicted once, from those before it in its window.
"""
import math
import tempfile

import numpy as np

from kzoo.training.progress import Progress
from kzoo.training.text_files import check_text, split_point
from kzoo.training.token_files import encode_text

LOGITS = 1 << 25      # numbers in the logits of one batch, at most, so that big vocabularies fit into memory
LARGEST_BATCH = 64
TASKS = ("text-generation",)


def measure_text(model, data, *, tail=1.0, sequence_length=None, batch_size=None, memory_length=None):
    """Measure how well a model predicts a text.

    Args:
        model: a model with a tokenizer, or an open session of a bundle.
        data: UTF-8 text file (.gz and .xz too), or several that are read as one text.
        tail: share of the text, from its end, that is looked at; 0.1 is what `train` holds out with its defaults.
        sequence_length: T; None means the model's `max_sequence_length`.
        batch_size: windows at a time; None chooses by the size of the vocabulary. The result does not depend on it,
            but for models with a memory: see `StreamScorer`.
        memory_length: M of a live model with a memory; None means its own.

    Returns: dict of `loss` (mean, in nats a token), `perplexity` (its exponential), `bits_per_character`, `tokens`
        (predicted ones) and `characters` (that they stand for).
    Raises: ValueError or OSError for data that cannot be used.
    """
    check_tail(tail)
    text = check_text(data)
    scorer = _make_scorer(model, sequence_length, batch_size, memory_length)
    start = split_point(text.characters, tail) if tail < 1 else 0
    with tempfile.TemporaryDirectory() as folder:
        with Progress("reading", text.characters - start, "characters") as progress:
            tokens = encode_text(text, model.tokenizer, folder, "data", start, report=progress.update,
                                 documents=scorer.documents)
        if len(tokens) < 2:
            raise ValueError(f"{', '.join(map(str, text.paths))} is too short: {len(tokens)} tokens, 2 are needed.")
        with Progress("evaluating", len(tokens) - 1, "tokens") as progress:
            nats, count = scorer.score(tokens, report=progress.update)
        return metrics(nats, count, tokens, text.characters - start, model.tokenizer)


def _make_scorer(model, sequence_length, batch_size, memory_length):
    from kzoo.evaluation.streams import StreamScorer, with_memory

    if memory_length is not None:
        model = with_memory(model, memory_length)
    recurrent = model.backbone.recurrent if hasattr(model, "backbone") else "memory_length" in model.sizes
    return (StreamScorer if recurrent else WindowScorer)(model, sequence_length, batch_size)


def require_text_generation(model):
    """Raise ValueError for another task."""
    if model.task not in TASKS:
        raise ValueError(f"Loss and perplexity are defined for the task {TASKS[0]!r}. "
                         f"The model's task is {model.task!r}.")


def check_tail(tail):
    if not 0 < tail <= 1:
        raise ValueError(f"`tail` must be above 0 and at most 1. Received: {tail!r}.")


def metrics(nats, count, tokens, characters, tokenizer):
    """The numbers of `measure_text`.

    Args:
        nats: summed loss of `count` predicted tokens of `tokens`.
        tokens: (N,) ids of the whole text.
        characters: how many the text has.
        tokenizer: says how many of them the first token, which nothing predicts, stands for.
    """
    loss = nats / count
    characters -= max(1, len(tokenizer.decode([int(tokens[0])])))
    bits = loss / math.log(2) * (len(tokens) - 1) / max(1, characters)
    return {"loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf, "bits_per_character": bits,
            "tokens": count, "characters": characters}


class WindowScorer:
    """Sums the loss of a model or session over windows of tokens.

    Args:
        model: a `kzoo` task model, or a session of a bundle.
        sequence_length, batch_size: as for `measure_text`.
        jit: compile a model with XLA; None does so on accelerators.

    Raises: ValueError for another task than text generation, or windows longer than the model's positions.
    """

    documents = False

    def __init__(self, model, sequence_length=None, batch_size=None, jit=None):
        require_text_generation(model)
        is_session = hasattr(model, "run")
        longest, vocabulary_size = limits_of(model)
        self.sequence_length = longest if sequence_length is None else sequence_length
        if not 1 <= self.sequence_length <= longest:
            raise ValueError(f"`sequence_length` must be at least 1 and at most the model's `max_sequence_length` "
                             f"({longest}). Received: {sequence_length!r}.")
        if batch_size is None:
            batch_size = min(LARGEST_BATCH, max(1, LOGITS // (self.sequence_length * vocabulary_size)))
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size!r}.")
        self.batch_size = batch_size
        self._score = _session_scorer(model) if is_session else _model_scorer(model, jit)

    def score(self, tokens, max_tokens=None, report=None):
        """The summed loss, in nats, and how many tokens it is of.

        Args:
            tokens: (N,) ids, N at least 2.
            max_tokens: look at no more than about so many, in windows spread evenly over the text.
            report: called with the number of tokens done, after every batch.
        """
        targets = len(tokens) - 1
        windows = -(-targets // self.sequence_length)
        chosen = windows if max_tokens is None else min(windows, max(1, max_tokens // self.sequence_length))
        nats, count = 0.0, 0
        for first in range(0, chosen, self.batch_size):
            numbers = np.arange(first, min(first + self.batch_size, chosen)) * windows // chosen
            rows, weights = self._rows(tokens, numbers)
            nats += float(np.sum(self._score(rows[:, :-1], rows[:, 1:], weights), dtype="float64"))
            count += int(weights.sum())
            if report is not None:
                report(count)
        return nats, count

    def _rows(self, tokens, numbers):
        """int32 (B, T + 1) windows and float32 (B, T) weights, filled up with zeros to one shape for all batches."""
        rows = np.zeros((self.batch_size, self.sequence_length + 1), "int32")
        weights = np.zeros((self.batch_size, self.sequence_length), "float32")
        for row, number in enumerate(numbers):
            start = number * self.sequence_length
            window = tokens[start:start + self.sequence_length + 1]
            rows[row, :len(window)] = window
            weights[row, :len(window) - 1] = 1
        return rows, weights


def _model_scorer(model, jit):
    import keras
    from keras import ops

    from kzoo.backend import compile_function

    def nats(token_ids, targets, weights):
        """-> (B,): the loss of each row."""
        logits = ops.cast(model({"token_ids": token_ids}, training=False), "float32")  # (B, T, V)
        each = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True)
        return ops.sum(each * weights, axis=-1)

    compiled = compile_function(model, nats, jit)
    return lambda *arrays: ops.convert_to_numpy(compiled(*(ops.convert_to_tensor(array) for array in arrays)))


def _session_scorer(session):
    def nats(token_ids, targets, weights):
        used = int(weights.any(axis=1).sum())  # rows that only fill up the batch cost time
        token_ids, targets, weights = token_ids[:used], targets[:used], weights[:used]
        outputs = session.run("forward", {"token_ids": token_ids, "padding_mask": np.ones(token_ids.shape, bool)})
        return (token_losses(outputs["logits"], targets) * weights).sum(axis=-1)
    return nats


def token_losses(logits, targets):
    """What each target costs, float64 (...) in nats, by logits (..., V)."""
    logits = logits.astype("float64")
    logits -= logits.max(axis=-1, keepdims=True)
    right = np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return np.log(np.exp(logits).sum(axis=-1)) - right


def limits_of(model):
    """(max_sequence_length, vocabulary_size) of a model or session."""
    if hasattr(model, "run"):
        return model.sizes["max_sequence_length"], model.sizes["vocabulary_size"]
    return model.config.max_sequence_length, model.config.vocabulary_size

"""How well a model with a memory predicts text: it reads on where it ended."""
import numpy as np

from kzoo.evaluation.language_modeling import (
    LARGEST_BATCH,
    LOGITS,
    limits_of,
    require_text_generation,
    token_losses,
)
from kzoo.training.token_streams import TokenStreams

STREAM = 16  # memories that a stream is long, at least, of those that each begin with an empty one


class StreamScorer:
    """Sums the loss of a model over a text, segment by segment, with the memory that the one before left.

    Documents, which end with the tokenizer's end-of-sequence token, begin with an empty memory. So do streams: with one
    (`batch_size` 1) every token has its whole past, and with more the text is read in as many parts at once.

    Args:
        model: a task model whose backbone is recurrent, or a session of its bundle.
        sequence_length: T, tokens of a segment; None means the model's `max_sequence_length`. Any number will do; a
            session reads those of its file.
        batch_size: streams; None takes as many as are 16 memories long, each, and fit into memory, and 1 of a session.
        jit: compile the model with XLA; None does so on accelerators.

    Raises: ValueError for another task than text generation.
    """

    documents = True  # the token's name in a text stands for it

    def __init__(self, model, sequence_length=None, batch_size=None, jit=None):
        require_text_generation(model)
        for name, value in (("sequence_length", sequence_length), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {value!r}.")
        self.sequence_length, self.batch_size = sequence_length, batch_size
        self._end_id = None if model.tokenizer is None else model.tokenizer.eos_id
        if hasattr(model, "run"):
            fixed = {"sequence_length": model.sizes["static_length"], "batch_size": 1}
            for name, value in fixed.items():
                given = getattr(self, name)
                if given not in (None, value):
                    raise ValueError(f"`{name}` must be {value} for a file of a bundle. Received: {given}.")
                setattr(self, name, value)
            self._begin, self._score = model.begin, _session_scorer(model)
            return
        self.sequence_length = sequence_length or limits_of(model)[0]
        self._begin, self._score = model.backbone.empty_cache, _model_scorer(model, jit)
        longest = STREAM * max(self.sequence_length, model.config.memory_length)
        fitting = LOGITS // (self.sequence_length * limits_of(model)[1])
        self._streams = lambda tokens: max(1, min(LARGEST_BATCH, fitting, tokens // longest))

    def score(self, tokens, max_tokens=None, report=None):
        """The summed loss, in nats, and how many tokens it is of.

        Args:
            tokens: (N,) ids, N at least 2.
            max_tokens: look at no more than about so many, at the beginning of every stream.
            report: called with the number of tokens done, after every batch.
        """
        wanted = len(tokens) - 1 if max_tokens is None else min(max_tokens, len(tokens) - 1)
        length = self.sequence_length
        streams = TokenStreams(tokens, length, self.batch_size or self._streams(wanted), self._end_id)
        batches = streams.batches_per_epoch
        if max_tokens is not None:
            batches = min(batches, max(1, max_tokens // (length * streams.batch_size)))
        state, nats, count = self._begin(streams.batch_size), 0.0, 0
        for number in range(batches):
            inputs, targets, weights = streams.batch(number)
            each, state = self._score(inputs, targets, weights, state)
            nats += float(np.sum(each, dtype="float64"))
            count += int(weights.sum())
            if report is not None:
                report(count)
        return nats, count


def _session_scorer(session):
    def score(inputs, targets, weights, state):
        state = session.begin(1) if inputs["begins"].any() else state
        logits, state = session.step(inputs["token_ids"], inputs["padding_mask"], state)
        return (token_losses(logits, targets) * weights).sum(axis=-1), state

    return score


def _model_scorer(model, jit):
    from keras import ops

    from kzoo.backend import compile_function
    from kzoo.training.losses import TokenCrossEntropy

    def nats(token_ids, padding_mask, begins, targets, weights, cache):
        """-> (B,): the loss of each row; and the memory."""
        cache = tuple(layer.forget(begins) for layer in cache)
        logits, cache = model.forward({"token_ids": token_ids, "padding_mask": padding_mask}, cache, training=False)
        return ops.sum(TokenCrossEntropy().call(targets, logits) * weights, axis=-1), cache

    compiled = compile_function(model, nats, jit)

    def score(inputs, targets, weights, cache):
        arrays = (inputs["token_ids"], inputs["padding_mask"], inputs["begins"], targets, weights)
        each, cache = compiled(*(ops.convert_to_tensor(array) for array in arrays), cache)
        return ops.convert_to_numpy(each), cache

    return score


def with_memory(model, length):
    """The same model with a memory of another length, its weights copied.

    Raises: ValueError for a model that has no memory, or a length below 1.
    """
    from kzoo.tasks.task import build_task

    if not hasattr(model, "backbone") or not model.backbone.recurrent:
        raise ValueError("`memory_length` is for a live model with a memory.")
    other = build_task(model.family, model.config.replace(memory_length=length), model.task, model.dtype_policy,
                       tokenizer=model.tokenizer)
    other.set_weights(model.get_weights())
    return other

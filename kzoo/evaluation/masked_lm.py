"""How well a model guesses hidden tokens of a text."""
import tempfile

import numpy as np

from kzoo.evaluation.language_modeling import check_tail, limits_of, token_losses
from kzoo.training.masked_corpus import MaskedCorpus, MaskedScorer, live_sums
from kzoo.training.options import TrainOptions
from kzoo.training.progress import Progress
from kzoo.training.text_files import check_text, split_point
from kzoo.training.token_files import encode_text


def measure_masks(model, data, *, tail=1.0, sequence_length=None, whole_words=False):
    """Loss and accuracy on hidden tokens: 15 % of the text's, drawn as training draws them, the same ones every time.

    Args:
        model: a model or a session, with a tokenizer that has a mask token.
        data: UTF-8 text file (.gz and .xz too), or several that are read as one text.
        tail: share of the text, from its end, that is looked at; 0.1 is what `train` holds out with its defaults.
        sequence_length: T, tokens in a window, special ones included; None means the model's `max_sequence_length`, or
            less for a shorter text. What is left of the text after whole windows is not looked at.
        whole_words: hide whole words.

    Returns: dict of `loss` (mean, in nats a hidden token), `perplexity`, `accuracy` and `hidden_tokens`.
    Raises: ValueError or OSError for data that cannot be used, or a tokenizer without a mask token.
    """
    check_tail(tail)
    text, tokenizer = check_text(data), model.tokenizer
    longest, vocabulary_size = limits_of(model)
    if sequence_length is not None and not 1 <= sequence_length <= longest:
        raise ValueError(f"`sequence_length` must be at least 1 and at most the model's `max_sequence_length` "
                         f"({longest}). Received: {sequence_length!r}.")
    start = split_point(text.characters, tail) if tail < 1 else 0
    with tempfile.TemporaryDirectory() as folder:
        with Progress("reading", text.characters - start, "characters") as progress:
            tokens = encode_text(text, tokenizer, folder, "data", start, report=progress.update)
        added = sum(map(len, tokenizer.template))
        window = min(sequence_length or longest, len(tokens) - 1 + added)
        if window <= added:
            raise ValueError(f"{', '.join(map(str, text.paths))} is too short: {len(tokens)} tokens, 2 are needed.")
        corpus = MaskedCorpus(tokens, tokens, text.characters - start, window, TrainOptions(whole_words=whole_words),
                              tokenizer)
        sums = _session_sums(model) if hasattr(model, "run") else live_sums(model)
        scorer = MaskedScorer(corpus, vocabulary_size, sums)
        with Progress("evaluating", scorer.tokens, "tokens") as progress:
            return scorer.results(report=progress.update)


def _session_sums(session):
    def sums(token_ids, targets, weights):
        logits = session.run("forward", {"token_ids": token_ids})["logits"][weights > 0]  # (N, V)
        targets, weights = targets[weights > 0], weights[weights > 0]
        return np.array([np.sum(token_losses(logits, targets) * weights), weights.sum(),
                         np.sum((logits.argmax(-1) == targets) * weights)])
    return sums

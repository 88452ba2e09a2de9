"""Running text of which some tokens are hidden, for masked language modelling."""
import math

import numpy as np
from keras import ops

from kzoo.backend import compile_function
from kzoo.training.corpus import Corpus
from kzoo.training.losses import class_sums, weighted_arguments
from kzoo.training.masking import Masking
from kzoo.training.row_batches import make_dataset, step_batches
from kzoo.training.task_data import Scorer

TRAINING, VALIDATION = 1, 2  # keep the draws of the two apart
LOGITS = 1 << 25             # numbers in the logits of one batch of a validation, at most


class MaskedCorpus(Corpus):
    """Data of fill-mask: windows of text with special tokens around, and which of the tokens are to be told.

    What is hidden in a batch is drawn from the seed and the number of the batch, so a resumed run hides the same.
    """

    measures = ("accuracy",)

    def __init__(self, train, valid, valid_characters, sequence_length, options, tokenizer):
        super().__init__(train, valid, valid_characters, sequence_length, options, tokenizer)
        self.seed = options.seed
        self.masking = Masking(tokenizer, options.whole_words)

    @staticmethod
    def text_length(sequence_length, tokenizer):
        length = sequence_length - sum(map(len, tokenizer.template))
        if length < 1:
            raise ValueError(f"`sequence_length` ({sequence_length}) leaves no room for text beside special tokens.")
        return length

    def batch(self, number):
        """(inputs, targets, weights) of one batch; a function of its number."""
        return self.hidden(self.windows.batches(number, number + 1)[0, :, :-1], [self.seed, TRAINING, number])

    def hidden(self, text_ids, seed):
        """(inputs, targets, weights) of windows of text, int (B, T without special tokens)."""
        before, after = (np.tile(np.array(ids, "int32"), (len(text_ids), 1)) for ids in self.tokenizer.template)
        token_ids = np.concatenate([before, text_ids, after], axis=1).astype("int32")         # (B, T)
        hidden, chosen = self.masking.hide(token_ids, seed)
        return {"token_ids": hidden}, token_ids, chosen.astype("float32")

    def dataset(self, first, last):
        return make_dataset(lambda: step_batches(self.batch, first, last, self.batches_per_step), self.batch(first))

    def compile_arguments(self, label_smoothing):
        return weighted_arguments(label_smoothing)

    def reported_loss(self, logs):
        return logs["weighted_loss"]

    def scorer(self, model):
        if self.valid is None:
            return None
        return MaskedScorer(self, model.config.vocabulary_size, live_sums(model))


class MaskedScorer(Scorer):
    """Loss and accuracy on hidden tokens of the held-out text; always the same ones are hidden.

    Args:
        vocabulary_size: of the logits.
        sums: function of arrays `token_ids`, `targets` and `weights`, each (B, T), to (weighted loss, weight, weighted
            number of right guesses), each summed.
    """

    def __init__(self, corpus, vocabulary_size, sums):
        self.corpus = corpus
        length = corpus.windows.sequence_length
        self._windows = corpus.valid[:len(corpus.valid) // length * length].reshape(-1, length)
        self.tokens = self._windows.size
        self._rows = min(len(self._windows), max(1, LOGITS // (corpus.sequence_length * vocabulary_size)))
        self._sums = sums

    def score(self, max_tokens=None, report=None):
        return self._measure(max_tokens, report)[0]

    def results(self, max_tokens=None, report=None):
        results, total = self._measure(max_tokens, report)
        return {**results, "perplexity": math.exp(min(results["loss"], 700)), "hidden_tokens": round(total)}

    def _measure(self, max_tokens, report):
        """(results, number of hidden tokens)"""
        count, length = self._windows.shape
        chosen = count if max_tokens is None else min(count, max(1, max_tokens // length))
        rows, sums = np.arange(chosen) * count // chosen, np.zeros(3)
        for first in range(0, chosen, self._rows):
            here = rows[first:first + self._rows]
            filled = np.resize(here, self._rows)
            inputs, targets, weights = self.corpus.hidden(self._windows[filled], [VALIDATION, first])
            weights[len(here):] = 0
            sums += self._sums(inputs["token_ids"], targets, weights)
            if report is not None:
                report((first + len(here)) * length)
        loss, total, right = map(float, sums)
        return {"loss": loss / max(1, total), "accuracy": right / max(1, total)}, total


def live_sums(model):
    """The `sums` of a live model, compiled."""
    compiled = compile_function(model, lambda token_ids, targets, weights: class_sums(
        model({"token_ids": token_ids}, training=False), targets, weights))

    def sums(*arrays):
        return ops.convert_to_numpy(compiled(*map(ops.convert_to_tensor, arrays)))
    return sums

"""Long texts in overlapping windows, each as long as a model can read. Numpy only."""
from typing import NamedTuple

import numpy as np


def cut(length, size, overlap=None):
    """Windows over `length` tokens.

    Args:
        length: number of tokens.
        size: most tokens of a window.
        overlap: tokens that a window shares with the one before, at least; None means size // 4.

    Returns: list of (start, stop); all but the only window of a short text have `size` tokens. Empty for no tokens.
    Raises: ValueError for an overlap that is not below `size`.
    """
    overlap = size // 4 if overlap is None else overlap
    if type(overlap) is not int or not 0 <= overlap < size:
        raise ValueError(f"`overlap` must be a whole number from 0 to {size - 1}, one less than a window has tokens. "
                         f"Received: {overlap!r}.")
    if length <= size:
        return [(0, length)] if length else []
    starts = [*range(0, length - size, size - overlap), length - size]
    return [(start, start + size) for start in starts]


def owners(windows, length):
    """For each token the window in which it stands farthest from an edge: int (length,), the first of equals.

    Edges of the text itself count like any other, as in the authors' code for SQuAD (Devlin et al. 2019).
    """
    tokens = np.arange(length)
    margins = [np.where((tokens >= start) & (tokens < stop), np.minimum(tokens - start, stop - 1 - tokens), -1)
               for start, stop in windows]
    return np.argmax(margins, axis=0)


class QuestionWindow(NamedTuple):
    """A question and a part of its context, as a model reads them.

    Attributes:
        token_ids: with the special tokens around and between.
        segment_ids: 0 for the question, 1 for the context.
        first: place in `token_ids` of the part's first token.
        start, stop: the part, as a range of the context's tokens.
    """
    token_ids: list
    segment_ids: list
    first: int
    start: int
    stop: int


def question_windows(tokenizer, question_ids, context_ids, max_sequence_length, overlap=None):
    """All windows of one question.

    Args:
        tokenizer: its `pair_template` says what stands around and between.
        question_ids, context_ids: lists of int without special tokens.
        max_sequence_length: most tokens of a window, special ones included.
        overlap: tokens of context that a window shares with the one before, at least; None means a quarter of it.

    Returns: list of `QuestionWindow`; empty if the context is.
    Raises: ValueError if the question leaves no room for the context.
    """
    before, between, after = tokenizer.pair_template
    room = max_sequence_length - len(question_ids) - len(before) - len(between) - len(after)
    if room < 1:
        raise ValueError(f"a question of {len(question_ids)} tokens leaves no room for its context: the model reads "
                         f"{max_sequence_length} tokens at a time")
    head = [*before, *question_ids, *between]
    windows = []
    for start, stop in cut(len(context_ids), room, overlap):
        tail = [*context_ids[start:stop], *after]
        windows.append(QuestionWindow(head + tail, [0] * len(head) + [1] * len(tail), len(head), start, stop))
    return windows

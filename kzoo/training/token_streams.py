"""Contiguous text for models with a memory: B streams side by side, each read segment by segment.

A document is cut into segments of T tokens; the last one is filled up. Nothing is read across its end: the next segment
begins a document, and says so. Batches are a function of their number, as those of `TokenWindows`.
"""
import numpy as np

READ = 1 << 22  # tokens searched at a time, which may lie on disk


class TokenStreams:
    """Segments in the order of the text, shared out evenly among B streams.

    Args:
        tokens: (N,) ids, usually a memory map.
        sequence_length: T.
        batch_size: B; there must be as many segments.
        end_id: the token that ends a document; None means that the text is one.

    Attributes:
        batches_per_epoch: after so many, every stream begins anew.
        predicted_tokens: how many targets an epoch has: all tokens but the first of each document.
    """

    def __init__(self, tokens, sequence_length, batch_size, end_id=None):
        self.tokens = tokens
        self.sequence_length = sequence_length
        self.batch_size = batch_size
        self._starts, self._lengths, self._begins = _cut(tokens, sequence_length, end_id)
        count = len(self._starts)
        if count < batch_size:
            raise ValueError(f"{batch_size} streams side by side need as many segments of up to {sequence_length} "
                             f"tokens; there are {count}. Give more text, a smaller `batch_size` or a smaller "
                             "`sequence_length`.")
        self._first = np.arange(batch_size + 1) * count // batch_size  # where each stream begins among the segments
        self.batches_per_epoch = int(np.diff(self._first).max())
        self.predicted_tokens = int(self._lengths.sum())
        self._real = np.concatenate([[0], np.cumsum([
            int(self._lengths[self._segments(place)[0]][self._segments(place)[1]].sum())
            for place in range(self.batches_per_epoch)])])

    def real_tokens(self, batches):
        """How many tokens the first `batches` batches predict."""
        epochs, rest = divmod(batches, self.batches_per_epoch)
        return int(epochs * self._real[-1] + self._real[rest])

    def batch(self, number):
        """(inputs, targets, weights) of one batch.

        Inputs: `token_ids` int32 (B, T), `padding_mask` bool (B, T), and `begins` bool (B,), True for rows that have
        no past. Targets are int32 (B, T), weights float32 (B, T), 1 for real tokens.
        """
        place = number % self.batches_per_epoch
        segments, there = self._segments(place)
        columns = np.arange(self.sequence_length + 1)
        places = np.minimum(self._starts[segments][:, None] + columns, len(self.tokens) - 1)
        windows = self.tokens[places].astype("int32")                                       # (B, T + 1)
        mask = (columns[:-1] < self._lengths[segments][:, None]) & there[:, None]           # (B, T)
        inputs = {"token_ids": np.where(mask, windows[:, :-1], 0), "padding_mask": mask,
                  "begins": (self._begins[segments] | (place == 0)) & there}
        return inputs, np.where(mask, windows[:, 1:], 0), mask.astype("float32")

    def _segments(self, place):
        """(numbers, there): each stream's segment, and False for streams that are one shorter than the others."""
        numbers = self._first[:-1] + place
        there = numbers < self._first[1:]
        return np.where(there, numbers, 0), there


def _cut(tokens, length, end_id):
    """(starts, lengths, begins) of all segments: int64, int64, bool."""
    ends = []
    if end_id is not None:
        for begin in range(0, len(tokens), READ):
            ends.append(begin + 1 + np.flatnonzero(np.asarray(tokens[begin:begin + READ]) == end_id))
    bounds = np.unique(np.concatenate([[0], *ends, [len(tokens)]]).astype("int64"))
    predicted = np.diff(bounds) - 1                                # a document's first token is not predicted
    segments = -(-predicted // length)
    document = np.repeat(np.arange(len(segments)), segments)
    number = np.arange(len(document)) - np.repeat(np.cumsum(segments) - segments, segments)  # within its document
    return (bounds[document] + number * length, np.minimum(length, predicted[document] - number * length), number == 0)

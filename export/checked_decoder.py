"""A `TokenDecoder` of an exported file, whose arguments are checked before they reach the runtime."""
import math
from typing import Any, NamedTuple

import numpy as np

from kzoo.export.session_inputs import check_ids, check_inputs
from kzoo.export.signature import Row, Signature
from kzoo.tasks.generate import TokenDecoder

PROMPT = Signature("prefill", "prefill", (Row("token_ids", "", ("batch_size", "sequence_length"), "int32"),
                                          Row("padding_mask", "", ("batch_size", "sequence_length"), "bool")), ())


class Checked(NamedTuple):
    """The runtime's state, and what it takes to see whether a next call fits it."""
    state: Any
    rows: int    # of the batch
    length: int  # tokens in a row, padding included
    limit: float  # most that there may be


class CheckedDecoder(TokenDecoder):
    """Base of what continues tokens in a runtime; that defines `_prefill`, `_decode` and `_reorder`.

    They take and return what `prefill`, `decode` and `reorder` do, with the runtime's own state, and are called with
    arrays of the right types, shapes and values alone.

    Attributes:
        num_rows: of the batches that it continues; None means any.
        reserves: whether `prefill` makes room for `max_new_tokens` and no more.
    """

    num_rows = None
    reserves = False

    def prefill(self, token_ids, padding_mask, max_new_tokens):
        """See `TokenDecoder`. Raises: ValueError naming the argument that does not fit."""
        sizes = {"vocabulary_size": self.vocabulary_size, "max_sequence_length": self.max_sequence_length or 0}
        arrays = check_inputs(PROMPT, {"token_ids": token_ids, "padding_mask": padding_mask}, sizes)
        token_ids, padding_mask = arrays["token_ids"], arrays["padding_mask"]
        rows, length = token_ids.shape
        if self.num_rows is not None and rows != self.num_rows:
            raise ValueError(f"`token_ids` must have a row for each of the {self.num_rows} sources. Received: {rows}.")
        if not padding_mask[:, -1].all():
            raise ValueError("`padding_mask` must end in a real token in every row: prompts are padded on the left.")
        if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, (int, np.integer)) or max_new_tokens < 0:
            raise ValueError(f"`max_new_tokens` must be a whole number of at least 0. Received: {max_new_tokens!r}.")
        logits, state = self._prefill(token_ids, padding_mask, int(max_new_tokens))
        limit = length + max_new_tokens if self.reserves else math.inf
        return logits, Checked(state, rows, length, min(limit, self.max_sequence_length or math.inf))

    def decode(self, token_ids, state):
        """See `TokenDecoder`. Raises: ValueError naming the argument that does not fit."""
        self._check_state(state)
        token_ids = check_ids("token_ids", token_ids, state.rows, self.vocabulary_size)
        if state.length >= state.limit:
            why = ("the model's `max_sequence_length`" if state.limit == self.max_sequence_length else
                   "what `prefill` was told by `max_new_tokens`")
            raise ValueError(f"`token_ids` reaches {state.length + 1} tokens; {why} is {state.limit}.")
        logits, after = self._decode(token_ids, state.state)
        return logits, Checked(after, state.rows, state.length + 1, state.limit)

    def reorder(self, state, rows):
        """See `TokenDecoder`. Raises: ValueError naming the argument that does not fit."""
        self._check_state(state)
        rows = check_ids("rows", rows, None, state.rows)
        after = self._reorder(state.state, rows)
        return state if after is state.state else state._replace(state=after, rows=len(rows))

    def _check_state(self, state):
        if not isinstance(state, Checked):
            raise ValueError("`state` must be what `prefill`, `decode` or `reorder` returned. "
                             f"Received: {type(state).__name__}.")

    def _prefill(self, token_ids, padding_mask, max_new_tokens):
        raise NotImplementedError(f"{type(self).__name__} must define `_prefill`.")

    def _decode(self, token_ids, state):
        raise NotImplementedError(f"{type(self).__name__} must define `_decode`.")

    def _reorder(self, state, rows):
        raise NotImplementedError(f"{type(self).__name__} must define `_reorder`.")

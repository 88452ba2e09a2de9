"""Sessions of models with a memory: what is read, they read segment by segment, whatever the runtime."""
import numpy as np

from kzoo.export.task_sessions import TextGenerationSession


class RecurrentSession(TextGenerationSession):
    """A session that continues text of any length after a memory of fixed length.

    Texts are cut so that segments end where they end, and filled up in front of the first one. A runtime gives `begin`,
    `step` and `_reorder`; a state holds the memory in values of its own.
    """

    def begin(self, rows):
        """The state of `rows` texts before their first token."""
        return {row.name: np.zeros((rows, *row.shape[1:]), row.dtype)
                for row in self.signatures["decode"].inputs if row.name.startswith("memory")}

    def step(self, token_ids, padding_mask, state):
        """Read a segment.

        Args:
            token_ids, padding_mask: int32 and bool (B, T), T of `width` or 1.
            state: of the B texts.

        Returns: (logits, state): float32 (B, T, V), and the state after the segment.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `step`.")

    def width(self, length):
        """How long a segment is for a text of so many tokens that fits into one."""
        return length

    def _segments(self, token_ids, padding_mask):
        """(logits (B, T, V), state) of texts that are filled up on the left."""
        length, segment = token_ids.shape[1], self.sizes["static_length"]
        segment = self.width(length) if length <= segment else segment
        missing = -length % segment
        ids, mask = (np.pad(array, ((0, 0), (missing, 0))) for array in (token_ids, padding_mask))
        state, found = self.begin(len(ids)), []
        for start in range(0, ids.shape[1], segment):
            logits, state = self.step(ids[:, start:start + segment], mask[:, start:start + segment], state)
            found.append(logits)
        return np.concatenate(found, axis=1)[:, missing:], state

    def _forward(self, arrays):
        ids, mask = arrays["token_ids"], arrays["padding_mask"]
        order = np.argsort(mask, axis=1, kind="stable")  # what is padding to the front, whichever side it is on
        found, _ = self._segments(np.take_along_axis(ids, order, axis=1), np.take_along_axis(mask, order, axis=1))
        logits = np.empty_like(found)
        np.put_along_axis(logits, order[..., None], found, axis=1)
        return {"logits": logits}

    def _prefill(self, token_ids, padding_mask, max_new_tokens):
        logits, state = self._segments(np.asarray(token_ids), np.asarray(padding_mask, bool))
        return logits[:, -1], state

    def _decode(self, token_ids, state):
        ids = np.asarray(token_ids, "int32")[:, None]
        logits, state = self.step(ids, np.ones(ids.shape, bool), state)
        return logits[:, -1], state

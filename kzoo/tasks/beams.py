"""Beam search, token for token that of Hugging Face `generate(num_beams=k)`. Numpy only."""
import functools

import numpy as np

from kzoo.tasks.sampling import log_softmax, refuse_dead_end, restrict, top_indices

_NEVER = np.float32(-1e9)  # the score of beams that do not exist yet, or have ended


def beam_search(decoder, token_ids, padding_mask, limit, options, eos=(), stops=None):
    """The best continuation of every prompt.

    Rows do not influence each other; a row that is done leaves the batch.

    Args:
        decoder: a `TokenDecoder`.
        token_ids, padding_mask: (B, T) left-padded prompts; True = a real token.
        limit: number of new tokens at which every hypothesis ends.
        options: `GenerationOptions`; those of sampling do not matter.
        eos: ids that end a hypothesis.
        stops: None, or a function (row, new ids) -> bool that ends one for another reason.

    Returns: B lists of new token ids, the ending token included.
    """
    beams, vocabulary = options.num_beams, decoder.vocabulary_size
    logits, state = decoder.prefill(token_ids, padding_mask, limit)
    first = np.repeat(np.arange(len(token_ids)), beams)
    logits, state = np.asarray(logits)[first], decoder.reorder(state, first)  # (B * beams, V)
    searches = [_RowSearch(row, ids[mask], limit, options, eos, stops)
                for row, (ids, mask) in enumerate(zip(token_ids, padding_mask, strict=True))]
    active = searches
    for length in range(limit):
        scores = restrict(log_softmax(logits), functools.partial(_histories, active), length, limit, options, eos)
        steps = [search.step(block) for search, block in
                 zip(active, scores.reshape(len(active), beams, vocabulary), strict=True)]
        going = [i for i, search in enumerate(active) if not search.done]
        if not going:
            break
        sources = np.concatenate([i * beams + steps[i][0] for i in going])
        tokens = np.concatenate([steps[i][1] for i in going]).astype("int32")
        if not np.array_equal(sources, np.arange(len(scores))):  # copying caches is the dear part of beams
            state = decoder.reorder(state, sources)
        active = [active[i] for i in going]
        logits, state = decoder.decode(tokens, state)
    return [search.best() for search in searches]


def _histories(searches):
    return [history for search in searches for history in search.histories()]


class _RowSearch:
    """The hypotheses of one prompt: `num_beams` running ones, and the best finished ones."""

    def __init__(self, row, prompt, limit, options, eos, stops):
        self.row, self.prompt, self.limit, self.eos, self.stops = row, prompt, limit, eos, stops
        self.options, self.beams = options, options.num_beams
        self.ids = np.zeros((self.beams, 0), "int32")  # (beams, new tokens so far)
        self.scores = np.full(self.beams, _NEVER)
        self.scores[0] = 0.0  # all beams begin equal, so only the first counts
        self.finished = []  # (score, ids), best first, at most `beams`
        self.done = False

    def histories(self):
        return [np.concatenate([self.prompt, ids]) for ids in self.ids]

    def best(self):
        return self.finished[0][1].tolist()

    def step(self, log_probabilities):
        """Extend by one token: (beams, V) -> the beams to continue from, and the token that each adds."""
        totals = (log_probabilities + self.scores[:, None]).ravel()
        refuse_dead_end(totals, self.options)
        # One beam can end in each of the eos tokens, and as many as `beams` must be left to continue.
        wanted = max(2, 1 + len(self.eos)) * self.beams
        chosen = top_indices(totals, min(wanted, len(totals)))
        parents, tokens = np.divmod(chosen, log_probabilities.shape[1])
        values = totals[chosen]
        ids = np.concatenate([self.ids[parents], tokens[:, None].astype("int32")], axis=1)  # (wanted, length)
        ended = self._ended(ids)
        scale = float(ids.shape[1]) ** self.options.length_penalty
        # Only the likeliest `beams` may finish; the others are spares for going on.
        self.finished += [(values[i] / scale, ids[i]) for i in np.flatnonzero(ended[:self.beams])]
        self.finished = sorted(self.finished, key=lambda item: -item[0])[:self.beams]
        values = values + ended * _NEVER
        running = np.argsort(-values, kind="stable")[:self.beams]
        self.ids, self.scores = ids[running], values[running]
        full = len(self.finished) == self.beams
        # Without early stopping: done when the likeliest running beam, ended now, would beat none of the finished.
        hopeless = full and (self.options.early_stopping or self.scores[0] / scale <= self.finished[-1][0])
        self.done = bool(ended.all() or hopeless)
        return parents[running], tokens[running]

    def _ended(self, ids):
        if ids.shape[1] == self.limit:
            return np.ones(len(ids), bool)
        ended = np.isin(ids[:, -1], self.eos)
        if self.stops is not None:
            ended |= np.array([self.stops(self.row, each.tolist()) for each in ids])
        return ended

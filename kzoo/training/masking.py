"""Masked language modelling: which tokens are hidden, and what stands in their place."""
import numpy as np

PROBABILITY = 0.15          # of a token, or of a word, to be chosen
MASKED, REPLACED = 0.8, 0.1  # of the chosen ones; the others stay as they are
SPACES = ("\u2581", "\u0120", "\u010a", " ", "\n", "\t")  # how pieces spell a space or a line end


class Masking:
    """Hides tokens of rows.

    Args:
        tokenizer: must have a mask token.
        whole_words: choose whole words instead of single tokens.

    Raises: ValueError if the tokenizer has no mask token.
    Source: Devlin et al. 2019, section 3.1 (arXiv 1810.04805); whole words: its authors' later release of BERT.
    """

    def __init__(self, tokenizer, whole_words=False):
        if tokenizer.mask_id is None:
            raise ValueError(f"fill-mask needs a tokenizer with a mask token, and this {tokenizer.kind} tokenizer has "
                             "none. Use wordpiece, or a folder whose tokenizer has one.")
        self.mask_id = tokenizer.mask_id
        special = np.zeros(tokenizer.vocabulary_size, bool)
        special[list(tokenizer.special_tokens.values())] = True
        self._special = special
        self._ordinary = np.array(sorted(set(tokenizer.vocabulary.values()) - set(np.flatnonzero(special))), "int32")
        self._whole_words = whole_words
        if whole_words:
            self._starts, self._ends = _word_edges(tokenizer)

    def hide(self, token_ids, seed):
        """Choose tokens and hide most of them.

        Args:
            token_ids: int (B, T); special tokens are never chosen.
            seed: int or list of them; the same one hides the same tokens.

        Returns: (hidden, chosen): int32 (B, T) ids to read, and bool (B, T), True where the token is to be told.
        """
        random = np.random.default_rng(seed)
        ordinary = ~self._special[token_ids]
        chosen = ordinary & (self._word_draws(token_ids, random) if self._whole_words
                             else random.random(token_ids.shape) < PROBABILITY)
        fate = random.random(token_ids.shape)
        replacements = self._ordinary[random.integers(len(self._ordinary), size=token_ids.shape)]
        hidden = np.where(chosen & (fate < MASKED), self.mask_id, token_ids)
        hidden = np.where(chosen & (fate >= MASKED) & (fate < MASKED + REPLACED), replacements, hidden)
        return hidden.astype("int32"), chosen

    def _word_draws(self, token_ids, random):
        """bool (B, T): the same draw for all tokens of a word."""
        begins = self._starts[token_ids] | self._special[token_ids]
        begins[:, 1:] |= self._ends[token_ids[:, :-1]] | self._special[token_ids[:, :-1]]
        words = np.cumsum(begins, axis=1)                                                 # (B, T), number of the word
        draws = random.random((len(token_ids), token_ids.shape[1] + 1)) < PROBABILITY
        return np.take_along_axis(draws, words, axis=1)


def _word_edges(tokenizer):
    """Two bool (V,): whether a token begins a word whatever precedes it, and whether one begins after it."""
    starts, ends = np.zeros((2, tokenizer.vocabulary_size), bool)
    for piece, index in tokenizer.vocabulary.items():
        if tokenizer.kind == "wordpiece":
            starts[index] = not piece.startswith("##")
        else:
            starts[index], ends[index] = piece.startswith(SPACES), piece.endswith(SPACES)
    return starts, ends

"""Masked language modelling: how much is hidden and how, what never is, and whole words."""
import numpy as np
import pytest

from kzoo.tokenizers import train_tokenizer
from kzoo.training.masking import Masking

TEXT = "hidden words are told from words around them, unhidden and hiding\n" * 9
B, T = 53, 211


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("wordpiece", [TEXT], 61)


def rows(tokenizer, seed=0):
    ids = np.random.default_rng(seed).integers(5, tokenizer.vocabulary_size, size=(B, T))
    ids[:, 0], ids[:, -3], ids[:, -2:] = tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id
    return ids


def test_fifteen_in_a_hundred_are_chosen_and_most_are_hidden(tokenizer):
    ids = rows(tokenizer)
    hidden, chosen = Masking(tokenizer).hide(ids, 7)
    inside = ids[:, 1:-3].size
    assert chosen.sum() / inside == pytest.approx(0.15, abs=0.01)
    assert (hidden == tokenizer.mask_id).sum() / chosen.sum() == pytest.approx(0.8, abs=0.03)
    stayed = (hidden == ids)[chosen].mean()  # on purpose, and where the token drawn happens to be the right one
    assert stayed == pytest.approx(0.1 + 0.1 / (tokenizer.vocabulary_size - 5), abs=0.03)
    np.testing.assert_array_equal(hidden[~chosen], ids[~chosen])
    assert hidden.dtype == np.int32


def test_special_tokens_are_neither_chosen_nor_drawn(tokenizer):
    ids = rows(tokenizer)
    hidden, chosen = Masking(tokenizer).hide(ids, 7)
    special = np.isin(ids, list(tokenizer.special_tokens.values()))
    assert special.any() and not chosen[special].any()
    drawn = hidden[chosen & (hidden != tokenizer.mask_id)]
    assert not np.isin(drawn, list(tokenizer.special_tokens.values())).any()


def test_the_same_seed_hides_the_same(tokenizer):
    ids, masking = rows(tokenizer), Masking(tokenizer)
    first, again, other = (masking.hide(ids, seed) for seed in ([3, 1], [3, 1], [3, 2]))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[1], other[1])


def words_of(tokenizer, ids):
    """The word each token of a row belongs to, -1 for special ones, written out."""
    words, word, previous = [], -1, None
    for index in ids:
        piece = tokenizer.id_to_token(int(index))
        if not piece.startswith("##") or previous in tokenizer.special_tokens.values():
            word += 1
        words.append(-1 if index in tokenizer.special_tokens.values() else word)
        previous = index
    return np.array(words)


def test_whole_words_are_chosen_together(tokenizer):
    ids = rows(tokenizer)
    _, chosen = Masking(tokenizer, whole_words=True).hide(ids, 7)
    _, single = Masking(tokenizer).hide(ids, 7)
    torn = {"whole": 0, "single": 0}
    for row, whole, alone in zip(ids, chosen, single, strict=True):
        words = words_of(tokenizer, row)
        for word in set(words) - {-1}:
            torn["whole"] += 0 < whole[words == word].sum() < (words == word).sum()
            torn["single"] += 0 < alone[words == word].sum() < (words == word).sum()
    assert torn["whole"] == 0 < torn["single"]
    assert chosen.sum() / ids[:, 1:-3].size == pytest.approx(0.15, abs=0.02)


def test_a_tokenizer_without_a_mask_is_refused():
    with pytest.raises(ValueError, match="this character tokenizer has none. Use wordpiece"):
        Masking(train_tokenizer("character", [TEXT]))

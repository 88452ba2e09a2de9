"""Running text with hidden tokens: windows with their special tokens, the same ones hidden whenever asked."""
import numpy as np
import pytest
from keras import ops

from kzoo.tokenizers import train_tokenizer
from kzoo.training.masked_corpus import MaskedCorpus
from kzoo.training.options import TrainOptions

TEXT = "one two three four five\n" * 30
T, B = 13, 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("wordpiece", [TEXT], 40)


@pytest.fixture(scope="module")
def corpus(tokenizer):
    ids = np.array(tokenizer.encode(TEXT, add_special_tokens=False), "uint16")
    return MaskedCorpus(ids, ids[:97], 300, T, TrainOptions(batch_size=B, seed=5), tokenizer)


def test_a_batch_is_a_function_of_its_number(corpus, tokenizer):
    inputs, targets, weights = corpus.batch(7)
    assert inputs["token_ids"].shape == targets.shape == weights.shape == (B, T)
    assert (targets[:, 0] == tokenizer.cls_id).all() and (targets[:, -1] == tokenizer.sep_id).all()
    np.testing.assert_array_equal(targets[:, 1:-1], corpus.windows.batches(7, 8)[0, :, :-1])
    np.testing.assert_array_equal((inputs["token_ids"] != targets) & (weights == 0), np.zeros((B, T), bool))
    again = corpus.batch(7)
    np.testing.assert_array_equal(again[0]["token_ids"], inputs["token_ids"])
    assert not np.array_equal(corpus.batch(8)[2], weights)


def test_the_dataset_gives_steps_whose_weights_are_a_mean(corpus):
    for _, _, weights in corpus.dataset(0, 6):
        total = float(np.sum(np.asarray(weights)))
        assert total == pytest.approx(1.0, abs=1e-5) or total == 0


class Uniform:
    """Logits that are the same for all tokens but one."""

    config = type("Config", (), {"vocabulary_size": 40})
    variables = ()

    def __call__(self, inputs, training=None):
        assert training is False
        return ops.one_hot(ops.full_like(inputs["token_ids"], 9), 40) + 0.0


@pytest.mark.parametrize("most", [None, 40])
def test_a_validation_counts_hidden_tokens_only(corpus, most):
    scorer = corpus.scorer(Uniform())
    assert scorer.tokens == 97 // 11 * 11
    found = scorer.results(most)
    right = np.log(39 + np.e) - found["loss"]  # the share of hidden tokens that are number 9
    assert found["accuracy"] == pytest.approx(right, abs=1e-5)
    assert found["hidden_tokens"] == pytest.approx(0.15 * (most or scorer.tokens), rel=0.9)
    assert found["perplexity"] == pytest.approx(np.exp(found["loss"]), rel=1e-5)
    assert scorer.results(most) == found


def test_a_window_must_have_room_for_text(tokenizer):
    with pytest.raises(ValueError, match=r"`sequence_length` \(2\) leaves no room"):
        MaskedCorpus.text_length(2, tokenizer)

import json
import math
import pathlib

import numpy as np
import pytest

from kzoo.errors import CheckFailed
from kzoo.tasks import sampling
from kzoo.tasks.options import GenerationOptions
from tests.numpy_decoders import NumpyGPT2

FIXTURE = pathlib.Path(__file__).parents[1] / "fixtures" / "generation"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text())
V = 701  # several blocks of the draw, the last one not full


def normal(*shape, seed=3):
    return np.random.default_rng(seed).normal(0, 2, shape).astype("float32")


def test_log_softmax_agrees_with_the_formula_written_out():
    logits = normal(3, 17)
    logits[1, 5] = -np.inf
    for row, found in zip(logits, sampling.log_softmax(logits), strict=True):
        total = math.fsum(math.exp(each) for each in row)
        np.testing.assert_allclose(found, [each - math.log(total) for each in row.astype("float64")], atol=1e-6)
    np.testing.assert_allclose(sampling.softmax(logits + 1e4).sum(axis=1), 1, atol=1e-6)
    assert sampling.softmax(logits)[1, 5] == 0


def test_repetition_penalty_and_ban_agree_with_the_formula_written_out():
    scores = normal(2, 13)
    histories = [np.array([3, 3, 5]), np.array([0, 12])]
    expected = scores.copy()
    for row, history in enumerate(histories):
        for token_id in set(history.tolist()):
            value = scores[row, token_id]
            expected[row, token_id] = value * 1.7 if value < 0 else value / 1.7
    expected[:, [4, 7]] = -np.inf
    kept = scores.copy()
    np.testing.assert_allclose(sampling.adjust(scores, histories, 1.7, (4, 7)), expected, rtol=1e-6)
    np.testing.assert_array_equal(scores, kept)  # the decoder's array is not ours to change


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_no_ngram_occurs_twice(size):
    scores = normal(3, 4)
    histories = [np.array([0, 1, 2, 0, 1, 3, 0, 1]), np.array([2]), np.array([3, 3, 3, 3], "int32")]
    found = sampling.adjust(scores, histories, no_repeat_ngram_size=size)
    for row, history in enumerate(histories):
        for token_id in range(4):
            ids = [*history.tolist(), token_id]
            ngrams = [tuple(ids[i:i + size]) for i in range(len(ids) - size + 1)]
            repeats = ngrams[-1:] != [] and ngrams[-1] in ngrams[:-1]
            assert found[row, token_id] == (-np.inf if repeats else scores[row, token_id])
    assert np.isneginf(found).any() == (size <= 4) and np.isfinite(scores).all()


def test_a_forced_token_is_certain():
    scores = normal(2, 13)
    forced = sampling.adjust(scores, (), banned=(4,), forced=4)  # before all bans
    assert (forced[:, 4] == 0).all() and np.isneginf(np.delete(forced, 4, axis=1)).all()


@pytest.mark.parametrize("options, length, changed", [
    ({}, 3, set()), ({"suppress_tokens": (4, 7)}, 3, {4, 7}), ({"min_new_tokens": 4}, 3, {2}),
    ({"min_new_tokens": 3}, 3, set()), ({"forced_eos_token_id": 2}, 8, set()),
    ({"forced_eos_token_id": 2}, 9, set(range(13))), ({"min_new_tokens": 4, "suppress_tokens": (7,)}, 0, {2, 7}),
    ({"repetition_penalty": 1.7}, 0, {5}), ({"no_repeat_ngram_size": 1}, 0, {5}),
    ({"no_repeat_ngram_size": 1, "forced_eos_token_id": 5}, 9, set(range(13)))], ids=str)
def test_options_restrict_a_step(options, length, changed):
    scores, asked = normal(2, 13), []

    def histories():
        asked.append(length)
        return [np.array([5]), np.array([5])]

    found = sampling.restrict(scores, histories, length, 10, GenerationOptions(**options), eos=(2,))
    assert set(np.flatnonzero((found != scores).any(axis=0))) == changed
    looks_back = not {"repetition_penalty", "no_repeat_ngram_size"}.isdisjoint(options)
    assert (found is scores) == (not changed) and asked == [length] * looks_back


@pytest.mark.parametrize("count", [1, 2, 7, 700, 701, 705])
def test_top_indices_are_a_stable_sort(count):
    values = np.round(normal(V), 1)  # many are equal
    np.testing.assert_array_equal(sampling.top_indices(values, count), np.argsort(-values, kind="stable")[:count])


def test_top_indices_with_fewer_than_count_possible():
    values = np.array([-np.inf, 2, -np.inf, 5], "float32")
    np.testing.assert_array_equal(sampling.top_indices(values, 3), [3, 1, 0])


def by_sorting(logits, temperature, top_k, top_p):
    """Temperature, then top-k, then top-p, by sorting everything: the definition."""
    logits = logits.astype("float64") / temperature
    order = np.argsort(-logits, kind="stable")
    order = order[:top_k] if top_k else order
    probabilities = np.exp(logits[order] - logits[order[0]])
    probabilities /= probabilities.sum()
    size = next((i + 1 for i in range(len(order)) if probabilities[:i + 1].sum() >= top_p), len(order))
    ids = np.sort(order[:size])
    kept = np.exp(logits[ids] - logits[order[0]])
    return ids, kept / kept.sum()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [0, 1, 7, 2000])
@pytest.mark.parametrize("top_p", [1e-6, 0.35, 0.93, 1.0])
def test_candidates_agree_with_sorting_everything(temperature, top_k, top_p):
    logits = normal(V)
    ids, probabilities = sampling.candidates(logits, temperature, top_k, top_p)
    expected_ids, expected = by_sorting(logits, temperature, top_k, top_p)
    np.testing.assert_array_equal(np.arange(V) if ids is None else ids, expected_ids)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


@pytest.mark.parametrize("spread, few", [(0.1, False), (5.0, True)])
def test_nucleus_of_a_large_vocabulary(spread, few):
    logits = normal(4999) * np.float32(spread)  # flat: the nucleus is larger than the head that is looked at first
    ids, probabilities = sampling.candidates(logits, top_p=0.9)
    expected_ids, expected = by_sorting(logits, 1.0, 0, 0.9)
    assert (len(ids) < sampling._HEAD) == few
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)


def test_top_p_takes_the_token_that_crosses_the_mass():
    logits = np.log(np.array([0.1, 0.5, 0.15, 0.25], "float32"))
    assert sampling.candidates(logits, top_p=0.74)[0].tolist() == [1, 3]
    assert sampling.candidates(logits, top_p=0.76)[0].tolist() == [1, 2, 3]
    assert sampling.candidates(np.zeros(6, "float32"), top_p=0.5)[0].tolist() == [0, 1, 2]  # equals: the lower ids


def test_a_tiny_temperature_leaves_the_likeliest():
    for temperature in (1e-3, 1e-30, 1e-300):
        ids, probabilities = sampling.candidates(normal(V), temperature)
        assert ids is None and probabilities.argmax() == normal(V).argmax() and probabilities.max() == 1


@pytest.mark.parametrize("case", EXPECTED["draws"], ids=lambda case: json.dumps(case["options"]))
def test_candidates_equal_those_of_hugging_face(case):
    decoder = NumpyGPT2(FIXTURE / "tiny_gpt2")
    options = GenerationOptions(do_sample=True, **case["options"])
    banned = (EXPECTED["eos_token_id"],) if options.min_new_tokens else ()
    for prompt, row in zip(EXPECTED["prompts"], case["rows"], strict=False):
        logits, _ = decoder.prefill(np.array([prompt], "int32"), np.ones((1, len(prompt)), bool), 1)
        logits = sampling.adjust(logits, [np.array(prompt)], options.repetition_penalty, banned)[0]
        ids, probabilities = sampling.candidates(logits, options.temperature, options.top_k, options.top_p)
        ids = np.arange(len(logits)) if ids is None else ids
        possible = probabilities > 0  # a banned token stays among all, with no probability
        assert ids[possible].tolist() == row["ids"]
        np.testing.assert_allclose(probabilities[possible], row["probabilities"], atol=2e-6)
        # The same comparison sees a temperature that is off by a tenth.
        if len(row["ids"]) > 1:
            other = sampling.candidates(logits, options.temperature * 1.1, options.top_k, options.top_p)[1]
            assert len(other) != len(probabilities) or np.abs(other - probabilities).max() > 1e-4


def test_draws_follow_the_probabilities():
    probabilities = sampling.softmax(normal(V))
    generator, draws = np.random.default_rng(1), 20011
    counts = np.bincount([sampling.draw(None, probabilities, generator) for _ in range(draws)], minlength=V)
    # Tokens seen five times or more on average, against the standard error of a count.
    often = probabilities * draws > 5
    scores = (counts - probabilities * draws)[often] / np.sqrt(draws * probabilities * (1 - probabilities))[often]
    assert often.sum() > 100 and np.abs(scores).max() < 4.5 and 0.8 < scores.std() < 1.2
    assert abs(counts[~often].sum() / draws - probabilities[~often].sum()) < 0.01


class _Fixed:
    def __init__(self, number):
        self.number = number

    def random(self):
        return self.number


@pytest.mark.parametrize("number", [0.0, 0.25, 0.4999999, 0.5, 0.75, 1 - 2**-53])
def test_draw_inverts_the_cumulative_distribution_and_skips_impossible_tokens(number):
    probabilities = np.zeros(V, "float32")
    probabilities[[5, 300, 690]] = 0.25, 0.25, 0.5
    ids = np.arange(V) * 3
    expected = 5 if number < 0.25 else 300 if number < 0.5 else 690
    assert sampling.draw(ids, probabilities, _Fixed(number)) == 3 * expected
    assert sampling.draw(None, probabilities, _Fixed(number)) == expected


def test_rows_draw_from_streams_of_their_own():
    first = sampling.row_generator(7, 2).random(5)
    np.testing.assert_array_equal(first, sampling.row_generator(7, 2).random(5))
    assert not np.array_equal(first, sampling.row_generator(7, 3).random(5))
    assert not np.array_equal(first, sampling.row_generator(8, 2).random(5))
    assert not np.array_equal(sampling.row_generator(None, 0).random(5), sampling.row_generator(None, 0).random(5))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("options", [
    {}, {"do_sample": True}, {"do_sample": True, "top_k": 3}, {"do_sample": True, "temperature": 0.5},
    {"do_sample": True, "top_p": 0.5}], ids=str)
def test_logits_that_are_not_finite_are_an_error(bad, options):
    logits = normal(2, 13)
    logits[1, 4] = bad
    with pytest.raises(CheckFailed, match="logits are not finite"):
        sampling.choose(logits, GenerationOptions(**options), [np.random.default_rng(0)] * 2)


@pytest.mark.parametrize("options", [
    {}, {"suppress_tokens": (4,)}, {"suppress_tokens": (4, 7), "min_new_tokens": 6}, {"repetition_penalty": 3.0},
    {"no_repeat_ngram_size": 1}, {"forced_eos_token_id": 2}, {"do_sample": True, "suppress_tokens": (4,)}], ids=str)
def test_the_short_way_gives_the_tokens_of_the_long_one(options):
    def streams():
        return [np.random.default_rng(row) for row in range(3)]

    options, hit = GenerationOptions(**options), 0
    for seed in range(40):
        logits = np.random.default_rng(seed).normal(size=(3, 9)).astype("float32")
        logits[:, 4] += seed % 3
        before, length = logits.copy(), 9 if seed % 2 else 5
        arguments = (lambda: [np.array([4, 1])] * 3, length, 10, options, (2,))
        found = sampling.next_tokens(logits, *arguments, streams())
        expected = sampling.choose(sampling.restrict(logits, *arguments), options, streams())
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(logits, before)
        hit += (found != logits.argmax(axis=1)).any()
    assert bool(hit) == (options != GenerationOptions())


def test_a_ban_also_hides_what_is_not_finite():
    logits, options = np.zeros((1, 5), "float32"), GenerationOptions(suppress_tokens=(3,))
    logits[0, 3] = np.nan
    assert sampling.next_tokens(logits, list, 0, 9, options, (), None) == [0]
    logits[0, 1] = np.nan
    with pytest.raises(CheckFailed, match="logits are not finite"):
        sampling.next_tokens(logits, list, 0, 9, options, (), None)

import itertools
import json
import pathlib

import numpy as np
import pytest

from kzoo.tasks.generate import generate
from kzoo.tasks.sampling import log_softmax
from tests.numpy_decoders import BytesTokenizer, NumpyGPT2, TableDecoder

FIXTURE = pathlib.Path(__file__).parents[1] / "fixtures" / "generation"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text())
BEAMS = [case for case in EXPECTED["searches"] if case["options"]["num_beams"] > 1]
PROMPTS = [[3, 5], [7], [2, 11, 13, 17]]


def options_of(case):
    return {"max_new_tokens": EXPECTED["max_new_tokens"], "eos_token_id": EXPECTED["eos_token_id"], **case["options"]}


@pytest.mark.parametrize("case", BEAMS, ids=lambda case: json.dumps(case["options"]))
def test_ids_equal_those_of_hugging_face(case):
    decoder = NumpyGPT2(FIXTURE / "tiny_gpt2")
    assert generate(decoder, None, EXPECTED["prompts"], **options_of(case)) == case["ids"]
    assert [generate(decoder, None, prompt, **options_of(case)) for prompt in EXPECTED["prompts"]] == case["ids"]


@pytest.mark.parametrize("wrong", [{"length_penalty": 0.5}, {"length_penalty": 2.0},
                                   {"min_new_tokens": 6}, {"repetition_penalty": 1.2}, {"eos_token_id": ()},
                                   {"no_repeat_ngram_size": 2}], ids=str)
def test_the_comparison_sees_a_wrong_option(wrong):
    case = next(case for case in BEAMS if case["options"] == {"num_beams": 4, "length_penalty": 1.0})
    decoder = NumpyGPT2(FIXTURE / "tiny_gpt2")
    assert generate(decoder, None, EXPECTED["prompts"], **{**options_of(case), **wrong}) != case["ids"]


def test_the_comparison_sees_a_search_that_stops_by_the_other_rule():
    decoder = NumpyGPT2(FIXTURE / "tiny_gpt2")
    early = [case for case in BEAMS if "early_stopping" in case["options"]]
    assert any(generate(decoder, None, EXPECTED["prompts"], **{**options_of(case), "early_stopping": False})
               != case["ids"] for case in early)


def test_early_stopping_saves_steps_and_finds_nothing_better():
    def search(seed, early_stopping):
        decoder = TableDecoder(seed=seed)
        ids = generate(decoder, None, [7], num_beams=3, max_new_tokens=13, eos_token_id=(3, 8, 9, 20, 21),
                       early_stopping=early_stopping)
        new = [float(log_softmax(decoder.next_logits(ids[:i]))[ids[i]]) for i in range(1, len(ids))]
        return len(decoder.batches), sum(new) / len(new)

    saved = []
    for seed in range(9):
        (steps, score), (early_steps, early_score) = search(seed, False), search(seed, True)
        assert early_steps <= steps and early_score <= score + 1e-6
        saved.append(steps - early_steps)
    assert max(saved) > 0


def test_the_comparison_sees_a_cache_that_does_not_follow_its_beam():
    class Lazy(NumpyGPT2):
        def reorder(self, state, rows):
            return super().reorder(state, rows) if len(rows) != len(state[0]) else state

    case = next(case for case in BEAMS if case["options"] == {"num_beams": 4, "length_penalty": 1.0})
    assert generate(Lazy(FIXTURE / "tiny_gpt2"), None, EXPECTED["prompts"], **options_of(case)) != case["ids"]


def test_the_tiny_model_of_onnxruntime_genai_says_what_it_says_there(shared):
    folder = shared / "data" / "weights" / "tiny-random-gpt2-onnx"
    expected = json.loads((folder / "expected.json").read_text())
    with np.load(folder / "tiny-random-gpt2.npz", allow_pickle=False) as weights:
        decoder = NumpyGPT2(config=expected["config"], weights=dict(weights))
    eos, beam = expected["config"]["eos_token_id"], expected["beam"]
    assert generate(decoder, None, expected["prompt"], max_new_tokens=6, eos_token_id=eos) == \
        expected["greedy_max_length_10"]
    options = {"max_new_tokens": beam["max_length"] - 12, "eos_token_id": eos}
    assert generate(decoder, None, beam["prompt"], num_beams=beam["num_beams"],
                    length_penalty=beam["length_penalty"], **options) == beam["output"]
    assert generate(decoder, None, beam["prompt"], **options) != beam["output"]  # greedy is something else


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_enough_beams_find_the_likeliest_of_all_sequences(length_penalty):
    size, steps = 5, 3
    decoder = TableDecoder(vocabulary_size=size, seed=0)

    def log_probability(ids):
        return sum(float(log_softmax(decoder.next_logits(ids[:i]))[ids[i]]) for i in range(1, len(ids)))

    best = max(([2, *new] for new in itertools.product(range(size), repeat=steps)), key=log_probability)
    options = {"max_new_tokens": steps, "length_penalty": length_penalty}
    assert generate(decoder, None, [2], num_beams=size ** (steps - 1), **options) == best
    assert generate(decoder, None, [2], max_new_tokens=steps) != best  # or greedy search would pass as well


def test_among_finished_sequences_the_length_penalty_decides():
    size, steps, eos = 5, 3, 4
    decoder = TableDecoder(vocabulary_size=size, seed=2)
    found = set()
    for penalty in (-3.0, 0.0, 1.0, 3.0):
        def score(new, penalty=penalty):
            ids = [2, *new]
            total = sum(float(log_softmax(decoder.next_logits(ids[:i]))[ids[i]]) for i in range(1, len(ids)))
            return total / len(new) ** penalty

        complete = [new for length in range(1, steps + 1) for new in itertools.product(range(size), repeat=length)
                    if eos not in new[:-1] and (new[-1] == eos or length == steps)]
        # Beams enough to finish everything: the search cannot end before it has seen all.
        found.add(max(complete, key=score))
        result = generate(decoder, None, [2], num_beams=150, max_new_tokens=steps, eos_token_id=eos,
                          length_penalty=penalty)
        assert tuple(result[1:]) == max(complete, key=score)
    assert len(found) > 1


@pytest.mark.parametrize("options", [{}, {"repetition_penalty": 1.5}, {"min_new_tokens": 5}, {"length_penalty": 0.3},
                                     {"early_stopping": True}, {"no_repeat_ngram_size": 2}], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_a_prompt_alone_equals_the_prompt_in_a_batch(seed, options):
    decoder = TableDecoder(seed=seed)
    options = {"num_beams": 3, "max_new_tokens": 13, "eos_token_id": (3, 8, 9, 20, 21), "pad_token_id": 28, **options}
    together = generate(decoder, None, PROMPTS, **options)
    assert together == [generate(decoder, None, prompt, **options) for prompt in PROMPTS]


def test_rows_that_are_done_leave_the_batch():
    decoder = TableDecoder(seed=1)
    results = generate(decoder, None, PROMPTS, num_beams=2, max_new_tokens=17, eos_token_id=(3, 8, 9, 20, 21))
    sizes = decoder.batches
    assert sizes[0] == 3 and sizes[1] == 6 and sizes == [sizes[0], *sorted(sizes[1:], reverse=True)]
    assert sizes[-1] < 6 and len({len(new) - len(old) for new, old in zip(results, PROMPTS, strict=True)}) > 1


@pytest.mark.parametrize("size, beams", [(2, 5), (3, 2), (1, 2)])
def test_more_beams_than_tokens(size, beams):
    decoder = TableDecoder(vocabulary_size=size, max_sequence_length=7)
    result = generate(decoder, None, [0], num_beams=beams, max_new_tokens=5, eos_token_id=())
    assert len(result) == 6 and set(result) <= set(range(size))


def test_a_stop_text_of_one_token_is_that_token_as_eos():
    decoder, tokenizer = TableDecoder(seed=1), BytesTokenizer()
    options = {"num_beams": 3, "max_new_tokens": 9}
    free = generate(decoder, tokenizer, PROMPTS, eos_token_id=(), **options)
    eos = free[0][4]
    ended = generate(decoder, tokenizer, PROMPTS, eos_token_id=eos, **options)
    assert ended != free
    assert generate(decoder, tokenizer, PROMPTS, eos_token_id=(), stop=tokenizer.decode([eos]), **options) == ended

import json
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest

from kzoo.tasks.generate import GenerationOptions, TokenDecoder, generate, generate_ids
from tests.numpy_decoders import BytesTokenizer, NumpyGPT2, TableDecoder

FIXTURE = pathlib.Path(__file__).parents[1] / "fixtures" / "generation"
EXPECTED = json.loads((FIXTURE / "expected.json").read_text())
GREEDY = [case for case in EXPECTED["searches"] if case["options"]["num_beams"] == 1]
PROMPTS = [[3, 5], [7], [2, 11, 13, 17], [19, 19, 23], [5]]
EOS = (3, 8, 9, 20, 21)


class Speaker(TokenDecoder):
    """Says one text, byte by byte, after any prompt; then its end token, if it has one."""

    vocabulary_size, max_sequence_length = 300, None

    def __init__(self, text, end=()):
        self.script = [*text.encode(), *end]

    def prefill(self, token_ids, padding_mask, max_new_tokens):
        return self.decode(token_ids[:, -1], 0)

    def decode(self, token_ids, state):
        logits = np.zeros((len(token_ids), self.vocabulary_size), "float32")
        logits[:, self.script[state]] = 1.0
        return logits, state + 1

    def reorder(self, state, rows):
        return state


def greedy_by_hand(decoder, prompt, steps, eos=()):
    ids = list(prompt)
    while len(ids) < len(prompt) + steps and not (len(ids) > len(prompt) and ids[-1] in eos):
        ids.append(int(np.argmax(decoder.next_logits(ids))))
    return ids


def options_of(case):
    return {"max_new_tokens": EXPECTED["max_new_tokens"], "eos_token_id": EXPECTED["eos_token_id"], **case["options"]}


# The search itself.

@pytest.mark.parametrize("eos", [(), EOS])
def test_greedy_search_takes_the_likeliest_token_every_time(eos):
    decoder = TableDecoder()
    results = generate(decoder, None, PROMPTS, max_new_tokens=17, eos_token_id=eos)
    assert results == [greedy_by_hand(decoder, prompt, 17, eos) for prompt in PROMPTS]
    assert not eos or len({len(new) - len(old) for new, old in zip(results, PROMPTS, strict=True)}) > 1


@pytest.mark.parametrize("case", GREEDY, ids=lambda case: json.dumps(case["options"]))
def test_ids_equal_those_of_hugging_face(case):
    decoder = NumpyGPT2(FIXTURE / "tiny_gpt2")
    assert generate(decoder, None, EXPECTED["prompts"], **options_of(case)) == case["ids"]
    assert [generate(decoder, None, prompt, **options_of(case)) for prompt in EXPECTED["prompts"]] == case["ids"]


def test_the_comparison_sees_positions_that_count_padding():
    class Unpadded(NumpyGPT2):
        def prefill(self, token_ids, padding_mask, max_new_tokens):
            return super().prefill(token_ids, np.ones_like(padding_mask), max_new_tokens)

    decoder = Unpadded(FIXTURE / "tiny_gpt2")
    assert generate(decoder, None, EXPECTED["prompts"], **options_of(GREEDY[0])) != GREEDY[0]["ids"]


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 0}], ids=str)
def test_a_ban_on_repetitions_that_leaves_nothing_is_an_error(options):
    decoder = TableDecoder(vocabulary_size=5, seed=0)
    ids = generate(decoder, None, [2], max_new_tokens=4, no_repeat_ngram_size=1, **options)
    assert sorted(ids) == list(range(5))
    with pytest.raises(ValueError, match="`no_repeat_ngram_size`=1 leaves no token to go on with"):
        generate(decoder, None, [2], max_new_tokens=5, no_repeat_ngram_size=1, **options)


@pytest.mark.parametrize("wrong", [{"repetition_penalty": 1.05}, {"min_new_tokens": 3}, {"eos_token_id": 7},
                                   {"no_repeat_ngram_size": 2}], ids=str)
def test_the_comparison_sees_a_wrong_option(wrong):
    decoder = NumpyGPT2(FIXTURE / "tiny_gpt2")
    assert generate(decoder, None, EXPECTED["prompts"], **{**options_of(GREEDY[0]), **wrong}) != GREEDY[0]["ids"]


def test_the_penalty_counts_the_prompt_and_not_the_padding():
    decoder = TableDecoder()
    decoder.pairs[:], decoder.positions[:] = 0, 0
    decoder.pairs[..., [5, 6, 11]] = 1.0, 0.9, 0.8
    together = generate(decoder, None, [[5, 2], [1]], max_new_tokens=1, repetition_penalty=1.2, pad_token_id=5)
    assert together == [[5, 2, 6], [1, 5]]


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 1}], ids=str)
def test_suppressed_tokens_are_never_said(options):
    decoder, never = TableDecoder(), tuple(range(0, 29, 2))
    results = generate(decoder, None, PROMPTS, max_new_tokens=15, suppress_tokens=never, **options)
    assert not {each for row, prompt in zip(results, PROMPTS, strict=True) for each in row[len(prompt):]} & set(never)
    plain = generate(decoder, None, PROMPTS, max_new_tokens=15, **options)
    assert {each for row, prompt in zip(plain, PROMPTS, strict=True) for each in row[len(prompt):]} & set(never)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 1}], ids=str)
def test_a_forced_end_stands_on_the_last_place(options):
    decoder, options = TableDecoder(), {"eos_token_id": EOS, "max_new_tokens": 4, **options}
    results = generate(decoder, None, PROMPTS, forced_eos_token_id=3, **options)
    plain = generate(decoder, None, PROMPTS, **options)
    ends = [len(row) - len(prompt) for row, prompt in zip(results, PROMPTS, strict=True)]
    assert 4 in ends and all(row[-1] == 3 for row, end in zip(results, ends, strict=True) if end == 4)
    assert any(row[-1] not in EOS for row in plain)
    if "num_beams" not in options:
        assert [row[:-1] for row in results] == [row[:-1] for row in plain]


# Batches.

@pytest.mark.parametrize("options", [
    {}, {"repetition_penalty": 1.4}, {"min_new_tokens": 6}, {"do_sample": True, "seed": 11},
    {"do_sample": True, "seed": 11, "top_k": 7, "top_p": 0.8, "temperature": 1.3}], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_rows_do_not_depend_on_the_others(seed, options):
    decoder = TableDecoder(seed=seed)
    options = {"max_new_tokens": 15, "eos_token_id": EOS, "pad_token_id": 28, **options}
    together = generate(decoder, None, PROMPTS, **options)
    assert len({len(new) - len(old) for new, old in zip(together, PROMPTS, strict=True)}) > 1
    for row, prompt in enumerate(PROMPTS):
        # The stream of random numbers belongs to the place, so a row is asked alone by replacing the others.
        others = [[1]] * row + [prompt]
        assert generate(decoder, None, others, **options)[row] == together[row]
        if not options.get("do_sample"):
            assert generate(decoder, None, prompt, **options) == together[row]


def test_finished_rows_leave_the_batch_and_no_step_is_wasted():
    decoder = TableDecoder()
    results = generate(decoder, None, PROMPTS, max_new_tokens=15, eos_token_id=EOS)
    lengths = [len(new) - len(old) for new, old in zip(results, PROMPTS, strict=True)]
    assert decoder.batches == [sum(length > step for length in lengths) for step in range(max(lengths))]


# Sampling.

def test_seeds_repeat_and_differ():
    decoder, options = TableDecoder(), {"do_sample": True, "max_new_tokens": 13}

    def text(**seed):
        return generate(decoder, None, [[3, 5], [3, 5]], **options, **seed)

    assert text(seed=7) == text(seed=7)
    assert text(seed=7) != text(seed=8) and text(seed=7)[0] != text(seed=7)[1]
    assert text() != text()


def test_sampling_one_candidate_is_greedy_search():
    decoder = TableDecoder()
    greedy = generate(decoder, None, PROMPTS, max_new_tokens=13)
    for options in ({"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-9}):
        assert generate(decoder, None, PROMPTS, max_new_tokens=13, do_sample=True, **options) == greedy
    assert generate(decoder, None, PROMPTS, max_new_tokens=13, do_sample=True) != greedy


# The context.

@pytest.mark.parametrize("beams", [1, 3])
def test_generation_stops_at_the_context_and_says_so(beams):
    decoder = TableDecoder(max_sequence_length=11)
    prompts = [[3, 5], [7] * 9, [2] * 11, [5] * 7]
    with pytest.warns(UserWarning, match=r"max_sequence_length=11, before max_new_tokens=6, in rows 1, 2, 3"):
        together = generate(decoder, None, prompts, max_new_tokens=6, num_beams=beams)
    assert [len(row) for row in together] == [8, 11, 11, 11]
    with pytest.warns(UserWarning, match="max_sequence_length=11"):  # padding costs a row no tokens
        assert together[3] == generate(decoder, None, prompts[3], max_new_tokens=6, num_beams=beams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert generate(decoder, None, prompts[0], max_new_tokens=6, num_beams=beams) == together[0]
        # A row that ends by itself is not cut short, even on the last place.
        for eos in together[1][9:]:
            generate(decoder, None, prompts[1], max_new_tokens=6, eos_token_id=eos)


def test_a_decoder_without_a_limit_goes_on():
    result = generate(Speaker("x" * 99), BytesTokenizer(), "ab", max_new_tokens=99)
    assert result == "ab" + "x" * 99


@pytest.mark.parametrize("prompts, words", [
    ([[3], [4] * 24], "max_sequence_length=23 tokens. Received: 24 tokens in prompt 1"),
    ([[3], [4, 29]], "below vocabulary_size=29. Received: 29 in prompt 1"),
    ([[-1]], "below vocabulary_size=29. Received: -1 in prompt 0"),
    ([[2**40]], "Received: 1099511627776 in prompt 0"),
    ([[3], []], "Prompt 1 is empty"),
    ([], "`inputs` is empty"),
])
def test_refuses_prompts_that_do_not_fit(prompts, words):
    with pytest.raises(ValueError, match=words):
        generate(TableDecoder(), None, prompts)


@pytest.mark.parametrize("options, words", [
    ({"eos_token_id": 29}, "below vocabulary_size=29. Received: 29"),
    ({"pad_token_id": 31}, "below vocabulary_size=29. Received: 31"),
    ({"stop": "x"}, "`stop` needs a tokenizer"),
    ({"max_tokens": 3}, "Unknown generation option 'max_tokens'. Did you mean 'max_new_tokens'"),
    ({"stream": print, "num_beams": 2}, "single prompt and num_beams=1. Received: 2 prompts, num_beams=2"),
    ({"stream": print}, "single prompt and num_beams=1. Received: 2 prompts"),
])
def test_refuses_options_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        generate(TableDecoder(), None, [[3], [5]], **options)


def test_refuses_a_stream_that_cannot_be_called():
    with pytest.raises(TypeError, match="`stream` must be a function"):
        generate(TableDecoder(), None, [3], stream=True)


# Text, stop texts, streams.

def test_what_comes_in_comes_out_continued():
    tokenizer = BytesTokenizer()
    decoder = Speaker("xyz", [tokenizer.eos_id])
    assert generate(decoder, tokenizer, "aé") == "aéxyz"
    assert generate(decoder, tokenizer, ["a", ""]) == ["axyz", "xyz"]
    assert generate(decoder, tokenizer, [97]) == [97, *b"xyz", 257]
    assert generate(decoder, tokenizer, [[97], [98, 99]], max_new_tokens=2) == [[97, *b"xy"], [98, 99, *b"xy"]]
    assert generate(decoder, tokenizer, np.array([[97], [98]]), max_new_tokens=1) == [[97, 120], [98, 120]]


def test_eos_comes_from_the_tokenizer_unless_an_option_names_another():
    tokenizer = BytesTokenizer()
    decoder = Speaker("xy", [tokenizer.eos_id, 65, 66])
    assert generate(decoder, tokenizer, [97], max_new_tokens=5) == [97, *b"xy", 257]
    assert generate(decoder, tokenizer, [97], max_new_tokens=5, eos_token_id=65) == [97, *b"xy", 257, 65]
    assert generate(decoder, tokenizer, [97], max_new_tokens=5, eos_token_id=()) == [97, *b"xy", 257, 65, 66]
    small = Speaker("xyz")
    small.vocabulary_size = 200  # a tokenizer with more ids than the model: its eos can never come
    assert generate(small, tokenizer, [97], max_new_tokens=3) == [97, *b"xyz"]


@pytest.mark.parametrize("stop, text, ids", [
    ("d", "abc", b"bcd"), (("zz", "cde"), "ab", b"bcde"),
    ("no", "abcdefgh", b"bcdefgh"), ("a", "abcdefgh", b"bcdefgh")])  # the prompt's own `a` does not count
def test_stop_texts_end_the_text_before_and_the_ids_behind_them(stop, text, ids):
    decoder, options = Speaker("bcdefgh"), {"max_new_tokens": 7, "stop": stop}
    assert generate(decoder, BytesTokenizer(), "a", **options) == text
    assert generate(decoder, BytesTokenizer(), [[97], [98, 97]], **options) == [[97, *ids], [98, 97, *ids]]
    pieces = []
    assert generate(decoder, BytesTokenizer(), "a", stream=pieces.append, **options) == text
    assert "a" + "".join(pieces) == text


def test_a_stream_gets_whole_characters_as_soon_as_they_are_certain():
    text, pieces = "né 漢 🙂", []
    decoder = Speaker(text, [257])
    result = generate(decoder, BytesTokenizer(), ["a"], stream=pieces.append)
    assert result == ["a" + text] and pieces == list(text)


def test_a_stream_gets_ids_for_ids():
    ids = []
    assert generate(Speaker("xy", [257]), BytesTokenizer(), [97, 98], stream=ids.append) == [97, 98, *ids]
    assert ids == [*b"xy", 257]


def test_a_stream_may_stop_everything_by_raising():
    class Enough(Exception):
        pass

    def stream(piece):
        raise Enough(piece)

    with pytest.raises(Enough, match="x"):
        generate(Speaker("xy"), BytesTokenizer(), "a", stream=stream)


def test_generate_ids_tells_of_every_token():
    seen = [[], []]
    results = generate_ids(TableDecoder(), [[3, 5], [7]], GenerationOptions(max_new_tokens=5),
                           on_token=lambda row, token_id: seen[row].append(token_id))
    assert results == [[3, 5, *seen[0]], [7, *seen[1]]] == generate(TableDecoder(), None, [[3, 5], [7]],
                                                                    max_new_tokens=5)
    with pytest.raises(ValueError, match="`on_token` needs num_beams=1"):
        generate_ids(TableDecoder(), [[3]], GenerationOptions(num_beams=2), on_token=print)


def test_needs_neither_keras_nor_tensorflow():
    program = """
import sys
for name in ("keras", "tensorflow", "jax", "torch"):
    sys.modules[name] = None
from kzoo.tasks.generate import generate
from tests.numpy_decoders import BytesTokenizer, TableDecoder
decoder = TableDecoder(vocabulary_size=13)
for options in ({}, {"num_beams": 2}, {"do_sample": True, "top_p": 0.9, "seed": 1}, {"stop": "x"}):
    print(generate(decoder, BytesTokenizer(), [3, 5], max_new_tokens=4, **options))
"""
    root = pathlib.Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    blocked = subprocess.run([sys.executable, "-c", program.replace("kzoo.tasks.generate", "kzoo.tasks.causal_lm")],
                             cwd=root, capture_output=True, text=True, timeout=120)
    assert "keras" in blocked.stderr  # the block is real

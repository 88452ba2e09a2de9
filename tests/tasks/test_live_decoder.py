"""The live model as a token decoder: rounding sizes up changes no logits."""
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.tasks.live_decoder import LiveDecoder, MemoryDecoder

V, C = 23, 37  # a context that is no power of two
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model():
    model = kzoo.create("gpt2-nano", vocabulary_size=V, num_layers=2, num_heads=2, hidden_dim=12, dropout=0.0,
                        max_sequence_length=C)
    model.set_weights([rng.normal(0, 0.3, weight.shape) for weight in model.weights])
    return model


def expected(model, row):
    """Logits after a whole row, without a cache. All rows have one shape; what follows is not seen."""
    padded = np.array([row + [0] * (C - len(row))], "int32")
    return ops.convert_to_numpy(model({"token_ids": padded}))[0, len(row) - 1]


def left_padded(rows):
    width = max(map(len, rows))
    ids, mask = np.full((len(rows), width), 7, "int32"), np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        ids[i, width - len(row):], mask[i, width - len(row):] = row, True
    return ids, mask


def random_rows(*lengths):
    return [rng.integers(0, V, length).tolist() for length in lengths]


# Three rows are rounded up to four; 17 tokens to 32, or to the context where that is nearer.
@pytest.mark.parametrize("lengths", [(3, 1, 5), (17, 9), (33,), (36, 2)], ids=str)
def test_logits_equal_those_without_a_cache(model, lengths):
    decoder, rows = LiveDecoder(model), random_rows(*lengths)
    steps = min(4, C - max(lengths))
    logits, state = decoder.prefill(*left_padded(rows), steps)
    for step in range(steps + 1):
        assert logits.shape == (len(rows), V) and logits.dtype == np.float32
        for row, found in zip(rows, logits, strict=True):
            np.testing.assert_allclose(found, expected(model, row), atol=2e-5)
        if step < steps:
            added = rng.integers(0, V, len(rows)).astype("int32")
            rows = [[*row, int(new)] for row, new in zip(rows, added, strict=True)]
            logits, state = decoder.decode(added, state)
    assert np.abs(found - expected(model, row[:-1] + [(row[-1] + 1) % V])).max() > 0.001


def test_the_whole_context_can_be_filled(model):
    decoder, rows = LiveDecoder(model), random_rows(2)
    _, state = decoder.prefill(*left_padded(rows), C - 2)
    row = rows[0]
    for _ in range(C - 2):
        row = [*row, int(rng.integers(0, V))]
        logits, state = decoder.decode(np.array(row[-1:], "int32"), state)
    np.testing.assert_allclose(logits[0], expected(model, row), atol=2e-5)


@pytest.mark.parametrize("chosen", [(2,), (1, 0), (0, 0, 2, 1, 1)], ids=str)
def test_reorder_selects_and_repeats_rows(model, chosen):
    decoder, rows = LiveDecoder(model), random_rows(3, 6, 5)
    _, state = decoder.prefill(*left_padded(rows), 4)
    rows = [rows[i] for i in chosen]
    state = decoder.reorder(state, np.array(chosen))
    for _ in range(2):
        added = rng.integers(0, V, len(rows)).astype("int32")
        rows = [[*row, int(new)] for row, new in zip(rows, added, strict=True)]
        logits, state = decoder.decode(added, state)
        assert len(logits) == len(rows)
        for row, found in zip(rows, logits, strict=True):
            np.testing.assert_allclose(found, expected(model, row), atol=2e-5)


def test_a_state_is_a_value(model):
    """Two continuations of one state do not see each other."""
    decoder, rows = LiveDecoder(model), random_rows(4)
    _, state = decoder.prefill(*left_padded(rows), 3)
    first, _ = decoder.decode(np.array([3], "int32"), state)
    decoder.decode(np.array([5], "int32"), state)
    np.testing.assert_array_equal(decoder.decode(np.array([3], "int32"), state)[0], first)


def test_a_prompt_beyond_the_context_is_refused(model):
    with pytest.raises(ValueError, match=f"{C + 1} tokens a row; `max_sequence_length` is {C}"):
        LiveDecoder(model).prefill(*left_padded(random_rows(C + 1)), 1)


# A model with a memory.

@pytest.fixture(scope="module")
def recurrent():
    model = kzoo.create("transformer-xl-nano", vocabulary_size=V, num_layers=2, num_heads=2, head_dim=3, hidden_dim=8,
                        intermediate_dim=9, memory_length=12, max_sequence_length=8, initial_memory="zeros")
    model.set_weights([np.random.default_rng(3).normal(0, 0.3, weight.shape) for weight in model.weights])
    return model


def read_alone(model, row, steps):
    """Logits after a row and after each of the tokens that follow: segments that end with the prompt, then tokens."""
    length = len(row) - steps
    ends = [*range(length % 8, length, 8), *range(length, len(row) + 1)]
    cache, start, results = model.backbone.empty_cache(1), 0, []
    for end in ends:
        if end > start:
            logits, cache = model.forward({"token_ids": np.array([row[start:end]], "int32")}, cache)
            results.append(ops.convert_to_numpy(logits)[0, -1])
        start = end
    return results[-steps - 1:]


def test_prompts_of_any_length_are_read_in_segments(recurrent):
    decoder, rows = MemoryDecoder(recurrent), random_rows(19, 4, 1)
    logits, state = decoder.prefill(*left_padded(rows), 2)
    found = [logits]
    for _ in range(2):
        added = rng.integers(0, V, len(rows)).astype("int32")
        rows = [[*row, int(new)] for row, new in zip(rows, added, strict=True)]
        logits, state = decoder.decode(added, state)
        found.append(logits)
    for number, row in enumerate(rows):
        np.testing.assert_allclose([each[number] for each in found], read_alone(recurrent, row, 2), atol=2e-5)
    assert np.abs(found[-1][1] - read_alone(recurrent, rows[1][1:], 2)[-1]).max() > 1e-3  # the first one is heard


def test_generation_goes_on_beyond_a_segment_and_in_beams(recurrent):
    prompts = random_rows(11, 2)
    together = recurrent.generate(prompts, max_new_tokens=9)
    assert [len(row) for row in together] == [20, 11]
    assert together[1] == recurrent.generate(prompts[1], max_new_tokens=9)
    assert recurrent.generate(prompts[1], max_new_tokens=3, num_beams=2)[:2] == prompts[1]

"""Arguments of what continues tokens: in every runtime, those that do not fit are named before anything runs."""
import numpy as np
import pytest

import kzoo
from kzoo.export import open_bundle
from kzoo.export.keras_session import live_session
from kzoo.export.session import RUNTIMES

IDS = np.array([[5, 3, 2], [7, 11, 1]], "int32")
MASK = np.ones((2, 3), bool)


@pytest.fixture(scope="module", params=RUNTIMES)
def session(request, exported):
    return open_bundle(exported[0], request.param)


@pytest.mark.parametrize(("token_ids", "padding_mask", "max_new_tokens", "message"), [
    (IDS[0], MASK, 4, r"`token_ids` must have the shape \(batch_size, sequence_length\)"),
    (IDS, MASK[:1], 4, "`padding_mask` must have the shape"),
    (IDS.astype("float32"), MASK, 4, "`token_ids` must hold whole numbers"),
    (np.full((2, 3), np.nan), MASK, 4, "`token_ids` must hold whole numbers"),
    (IDS + 300, MASK, 4, "`token_ids` must be from 0 to 310. Received: 311"),
    (IDS - 2, MASK, 4, "`token_ids` must be from 0 to 310. Received: -1"),
    (None, MASK, 4, "lacks the input `token_ids`"),
    (IDS, None, 4, "lacks the input `padding_mask`"),
    (IDS, MASK * 2, 4, "`padding_mask` must be bool, or whole numbers 0 and 1"),
    (IDS, MASK.astype("float32"), 4, "`padding_mask` must be bool, or whole numbers 0 and 1"),
    (IDS, ~MASK, 4, "`padding_mask` must end in a real token"),
    (np.ones((1, 54), int), np.ones((1, 54), bool), 4, "`token_ids` reaches 54 tokens; .* is 53"),
    (IDS, MASK, -1, "`max_new_tokens` must be a whole number of at least 0"),
    (IDS, MASK, 2.5, "`max_new_tokens` must be a whole number"),
    (IDS, MASK, None, "`max_new_tokens` must be a whole number"),
])
def test_prompts_that_do_not_fit_are_named(session, token_ids, padding_mask, max_new_tokens, message):
    with pytest.raises(ValueError, match=message):
        session.prefill(token_ids, padding_mask, max_new_tokens)


def test_tokens_and_rows_that_do_not_fit_are_named(session):
    _, state = session.prefill(IDS, MASK, 4)
    for token_ids, message in (([1], r"`token_ids` must have the shape \(2,\). Received: \(1,\)"),
                               ([[1], [2]], r"`token_ids` must have the shape \(2,\). Received: \(2, 1\)"),
                               ([1, 311], "`token_ids` must be from 0 to 310. Received: 311"),
                               ([-1, 1], "`token_ids` must be from 0 to 310. Received: -1"),
                               ([1.0, 2.0], "`token_ids` must hold whole numbers"),
                               ([[1], [2, 3]], "`token_ids` is no array of numbers")):
        with pytest.raises(ValueError, match=message):
            session.decode(token_ids, state)
    for rows, message in (([2], "`rows` must be from 0 to 1. Received: 2"), ([-1], "`rows` must be from 0 to 1"),
                          ([], r"`rows` must have the shape \(N,\). Received: \(0,\)"),
                          ([0.0], "`rows` must hold whole"), ([True, False], "`rows` must hold whole")):
        with pytest.raises(ValueError, match=message):
            session.reorder(state, rows)
    with pytest.raises(ValueError, match="`state` must be what `prefill`.* Received: NoneType"):
        session.decode([1, 2], None)
    with pytest.raises(ValueError, match="`state` must be what"):
        session.reorder(3, [0])
    logits, after = session.decode([1, 2], session.reorder(state, [1, 0]))  # and the state is as it was
    assert logits.shape == (2, 311) and (after.rows, after.length) == (2, 4)


def test_the_context_has_an_end(session):
    _, state = session.prefill(np.ones((1, 52), int), np.ones((1, 52), bool), 2)
    _, state = session.decode([1], state)
    with pytest.raises(ValueError, match="`token_ids` reaches 54 tokens; .*`max_sequence_length` is 53"):
        session.decode([1], state)


def test_a_live_model_makes_room_for_what_it_was_told(model):
    session = live_session(model)
    _, state = session.prefill(IDS, MASK, 1)
    _, state = session.decode([1, 2], state)
    with pytest.raises(ValueError, match="`token_ids` reaches 5 tokens; what `prefill` was told .* is 4"):
        session.decode([1, 2], state)


def test_sources_that_do_not_fit_are_named():
    sizes = {"num_layers": 1, "num_heads": 3, "hidden_dim": 18, "intermediate_dim": 17, "max_sequence_length": 41}
    session = live_session(kzoo.create("transformer-tiny", task="translation", vocabulary_size=61, **sizes))
    for ids, mask, message in ((IDS + 60, MASK, "`encoder_token_ids` must be from 0 to 60"),
                               (IDS[0], MASK, "`encoder_token_ids` must have the shape"),
                               (IDS, MASK * 3, "`encoder_padding_mask` must be bool"),
                               (np.ones((1, 42), int), np.ones((1, 42), bool), "`encoder_token_ids` reaches 42"),
                               (IDS, None, "lacks the input `encoder_padding_mask`")):
        with pytest.raises(ValueError, match=message):
            session.read(ids, mask)
    decoder = session.read(IDS, MASK)
    with pytest.raises(ValueError, match="`token_ids` must have a row for each of the 2 sources. Received: 1"):
        decoder.prefill([[0]], [[True]], 3)
    logits, _ = decoder.prefill([[0], [0]], [[True], [True]], 3)
    assert logits.shape == (2, 61)

"""LED: its config, its sizes, and equality with the reference, whose folder fixtures/make_seq2seq.py made."""
import json

import keras
import numpy as np
import pytest
from keras import ops

import kzoo
import tests.models.seq2seq_reference as reference
from kzoo.models.led import PRESETS, LedBackbone, LedConfig

ON_JAX = keras.backend.backend() == "jax"
compiled_for_seconds = pytest.mark.skipif(ON_JAX, reason="its parts are tried on JAX elsewhere")
TINY = dict(vocabulary_size=29, num_layers=1, num_heads=4, hidden_dim=24, intermediate_dim=37, max_sequence_length=19,
            max_target_length=13)


@pytest.fixture(scope="module")
def case():
    return reference.read("led/tiny")


@pytest.mark.parametrize("field, value, words", [
    ("max_target_length", 0, "`max_target_length` of LedConfig must be at least 1. Received: 0"),
    ("num_decoder_heads", 5, "`hidden_dim` of LedConfig must be divisible by the number of heads .5."),
    ("window_size", (3, 4), "`window_size` of LedConfig must be a number, or 1 of them"),
    ("dropout", 1.0, "`dropout`.*below 1"),
    ("eos_id", 29, "`eos_id`.*an id below 29"),
])
def test_values_that_do_not_fit_are_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        LedConfig(**{**TINY, field: value})


def number_of_weights(config):
    """Counted from the architecture, not from our layers."""
    width, inner, layers = config.hidden_dim, config.intermediate_dim, config.num_layers
    feed_forward = (width + 1) * inner + (inner + 1) * width
    encoder = 7 * (width + 1) * width + feed_forward + 4 * width
    decoder = 8 * (width + 1) * width + feed_forward + 6 * width
    rows = config.vocabulary_size + config.max_sequence_length + config.max_target_length
    return rows * width + 4 * width + layers * (encoder + decoder) + config.vocabulary_size


def test_presets_state_their_parameters():
    """As published: base 162 M, large 460 M."""
    model = LedBackbone(LedConfig(**TINY))
    model.build()
    assert model.count_params() == number_of_weights(model.config)
    for preset in PRESETS.values():
        assert preset.parameters == number_of_weights(preset.config)


@compiled_for_seconds
def test_a_target_longer_than_its_positions_is_refused():
    model = kzoo.create("led-tiny", **TINY)
    inputs = {"encoder_token_ids": np.zeros((1, 19), "int32"), "decoder_token_ids": np.zeros((1, 14), "int32")}
    with pytest.raises(ValueError, match="`decoder_token_ids` has 14 tokens a row; `max_target_length` is 13"):
        model(inputs)
    with pytest.warns(UserWarning, match="max_sequence_length=13"):
        assert len(model.generate([3] * 19, max_new_tokens=20, eos_token_id=None)) == 12


def test_logits_equal_the_reference(case):
    reference.assert_equal_logits(case)
    reference.assert_equal_rows(case, "right")


def test_logits_with_chosen_tokens_equal_the_reference(case):
    mask = np.arange(case.inputs["encoder_token_ids"].shape[1]) < case.expected["source_lengths"][:, None]
    inputs = {**case.inputs, "encoder_padding_mask": mask, "encoder_global_mask": case.expected["encoder_global_mask"]}
    reference.assert_equal(ops.convert_to_numpy(case.model(inputs)), case.expected["chosen_logits"])
    other = ops.convert_to_numpy(case.model({**case.inputs, "encoder_padding_mask": mask}))
    assert np.abs(other - case.expected["chosen_logits"]).max() > 0.01


@compiled_for_seconds
@pytest.mark.parametrize("changes", [{"window_size": (4, 5)}, {"activation": "gelu_tanh"}], ids=str)
def test_a_small_difference_would_be_seen(case, changes):
    reference.assert_told_apart(case, "led-tiny", changes)


@compiled_for_seconds
def test_gradients_equal_the_reference(case, gradients):
    reference.assert_equal_gradients(case, gradients)


@compiled_for_seconds
def test_generated_ids_equal_the_reference(case):
    """Greedy and with beams, from a cache."""
    reference.assert_equal_ids(case)


def test_hugging_face_round_trip(case, tmp_path):
    model, there = case.model, reference.FIXTURES / case.name
    assert (model.config.window_size, model.config.num_decoder_heads, model.config.max_target_length) == ((3, 5), 4, 23)
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    written, read = (json.loads((path / "config.json").read_text()) for path in (tmp_path / "hf", there))
    for name in ("attention_window", "decoder_layers", "decoder_ffn_dim", "max_encoder_position_embeddings",
                 "max_decoder_position_embeddings", "architectures", "decoder_start_token_id", "init_std"):
        assert written[name] == read[name], name
    again = kzoo.load(tmp_path / "hf")
    assert again.config == model.config and again.newly_initialized == ()
    for ours, theirs in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))

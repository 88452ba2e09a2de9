"""T5: its config, its sizes, its initialisation, and equality with the reference implementation.

The folders in fixtures/t5 were made by fixtures/make_seq2seq.py: transformers.T5ForConditionalGeneration with every
parameter drawn anew from N(0, 0.3), computed in float64.
"""
import json
import shutil

import keras
import numpy as np
import pytest
import safetensors.numpy
from keras import ops

import kzoo
from kzoo.models.t5 import PRESETS, T5Backbone, T5Config
from tests.models import seq2seq_reference as reference

TINY = dict(vocabulary_size=29, num_layers=2, num_decoder_layers=3, num_heads=3, head_dim=5, hidden_dim=14,
            intermediate_dim=17, num_buckets=8, max_distance=9)


# The config.

@pytest.mark.parametrize("field, value, words", [
    ("vocabulary_size", 0, "`vocabulary_size` of T5Config must be at least 1. Received: 0"),
    ("num_layers", 0, "`num_layers`.*at least 1"),
    ("num_decoder_layers", 0, "`num_decoder_layers`.*at least 1, or None"),
    ("head_dim", 0, "`head_dim`.*at least 1"),
    ("num_buckets", 3, "`num_buckets`.*at least 4"),
    ("max_distance", 4, "`max_distance`.*at least 5 for 8 buckets. Received: 4"),
    ("max_sequence_length", 0, "`max_sequence_length`.*at least 1, or None"),
    ("dropout", 1.0, "`dropout`.*at least 0 and below 1"),
    ("layer_norm_epsilon", 0.0, "`layer_norm_epsilon`.*above 0"),
    ("initializer_factor", 0.0, "`initializer_factor`.*above 0"),
    ("activation", "gelu_new", "Unknown activation 'gelu_new'"),
    ("eos_id", 29, "`eos_id`.*an id below 29. Received: 29"),
    ("pad_id", -1, "`pad_id`.*an id below 29"),
])
def test_values_that_do_not_fit_are_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        T5Config(**{**TINY, field: value})


# Sizes.

def number_of_weights(config):
    """Counted from the architecture, not from our layers; what is tied counts once."""
    width, inner = config.hidden_dim, config.num_heads * config.head_dim
    attention = 4 * width * inner
    feed_forward = (3 if config.gated else 2) * width * config.intermediate_dim
    encoder = config.num_layers * (attention + feed_forward + 2 * width)
    decoder = (config.num_decoder_layers or config.num_layers) * (2 * attention + feed_forward + 3 * width)
    tables = config.vocabulary_size * width * (1 if config.tie_embeddings else 2)
    return encoder + decoder + 2 * width + tables + 2 * config.num_buckets * config.num_heads


@pytest.mark.parametrize("changes", [{}, {"gated": True, "tie_embeddings": False}, {"num_decoder_layers": None}],
                         ids=str)
def test_the_count_is_the_models(changes):
    config = T5Config(**{**TINY, **changes})
    model = T5Backbone(config)
    model.build()
    assert model.count_params() == number_of_weights(config)
    assert len({weight.path for weight in model.weights}) == len(model.weights)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_state_their_parameters(name):
    assert PRESETS[name].parameters == number_of_weights(PRESETS[name].config)


@pytest.mark.parametrize("gated", [False, True])
def test_fresh_weights_are_those_of_the_papers_code(gated):
    keras.utils.set_random_seed(0)
    config = T5Config(vocabulary_size=300, num_layers=1, num_heads=4, head_dim=32, hidden_dim=64, intermediate_dim=200,
                      num_buckets=64, max_distance=99, gated=gated, tie_embeddings=False, initializer_factor=0.5)
    model = T5Backbone(config)
    model.build()
    expected = {"token_embedding/embeddings": 1, "output_embedding/embeddings": 64 ** -0.5,
                "decoder_position/embeddings": 64 ** -0.5, "encoder_position/embeddings": 64 ** -0.5}
    for block, attention in (("encoder_block_0", "attention"), ("decoder_block_0", "attention"),
                             ("decoder_block_0", "cross_attention")):
        expected |= {f"{block}/{attention}/query/kernel": (64 * 32) ** -0.5,
                     f"{block}/{attention}/key/kernel": 64 ** -0.5, f"{block}/{attention}/value/kernel": 64 ** -0.5,
                     f"{block}/{attention}/output/kernel": (4 * 32) ** -0.5,
                     f"{block}/feed_forward/down/kernel": 200 ** -0.5}
        expected |= {f"{block}/feed_forward/{name}/kernel": 64 ** -0.5 for name in ["up"] + ["gate"] * gated}
    found = {weight.path.split("/", 1)[1]: weight for weight in model.weights}
    for path, deviation in expected.items():
        assert float(ops.std(found[path])) == pytest.approx(0.5 * deviation, rel=0.1), path
    rest = set(found) - set(expected)
    assert all(path.endswith("norm/scale") and np.all(ops.convert_to_numpy(found[path]) == 1) for path in rest)


def test_dropout_stands_where_the_reference_has_it(monkeypatch):
    """On both embeddings, in every attention and feed-forward, on the output of each branch, and after the last norms.
    """
    seen = []

    def note(layer, inputs, training=False):
        if layer.rate:
            seen.append((layer.rate, bool(training), tuple(inputs.shape)))
        return inputs

    monkeypatch.setattr(kzoo.layers.Dropout, "call", note)
    model = kzoo.create("t5-small", **{**TINY, "num_layers": 1, "num_decoder_layers": 1}, dropout=0.3)
    model({"encoder_token_ids": np.zeros((1, 5), "int32"), "decoder_token_ids": np.zeros((1, 7), "int32")},
          training=True)
    encoder = [(1, 5, 14), (1, 3, 5, 5), (1, 5, 14), (1, 5, 17), (1, 5, 14), (1, 5, 14)]
    decoder = [(1, 7, 14), (1, 3, 7, 7), (1, 7, 14), (1, 3, 7, 5), (1, 7, 14), (1, 7, 17), (1, 7, 14), (1, 7, 14)]
    assert seen == [(0.3, True, shape) for shape in encoder + decoder]


def test_there_is_no_limit_but_one_that_is_set():
    inputs = {"encoder_token_ids": np.zeros((1, 9), "int32"), "decoder_token_ids": np.zeros((1, 6), "int32")}
    kzoo.create("t5-small", **TINY)(inputs)
    limited = kzoo.create("t5-small", **TINY, max_sequence_length=8)
    with pytest.raises(ValueError, match="`encoder_token_ids` has 9 tokens a row; `max_sequence_length` is 8"):
        limited(inputs)
    with pytest.raises(ValueError, match="`decoder_token_ids` has 9 tokens a row; `max_sequence_length` is 8"):
        limited({"encoder_token_ids": inputs["decoder_token_ids"], "decoder_token_ids": inputs["encoder_token_ids"]})


# Equality with the reference.

@pytest.fixture(scope="module", params=["v1_0", "v1_1"])
def case(request):
    return reference.read(f"t5/{request.param}")


def test_logits_equal_the_reference(case):
    reference.assert_equal_logits(case)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_logits_equal_the_reference(case, side):
    reference.assert_equal_rows(case, side)


@pytest.mark.parametrize("name, changes", [
    ("v1_0", {"layer_norm_epsilon": 1e-4}), ("v1_0", {"scale_logits": False}), ("v1_1", {"max_distance": 9}),
    ("v1_1", {"activation": "gelu"})], ids=str)
def test_a_small_difference_would_be_seen(name, changes):
    reference.assert_told_apart(reference.read(f"t5/{name}"), "t5-small", changes)


def test_gradients_equal_the_reference(case, gradients):
    reference.assert_equal_gradients(case, gradients)


def test_generated_ids_equal_the_reference(case):
    reference.assert_equal_ids(case)


# Checkpoints.

def config_of(folder, **changes):
    values = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps(values))


def test_the_variants_of_heads_are_told_apart():
    tied, untied = reference.read("t5/v1_0").model, reference.read("t5/v1_1").model
    assert (tied.config.tie_embeddings, tied.config.scale_logits) == (True, True)
    assert (untied.config.tie_embeddings, untied.config.scale_logits) == (False, False)
    assert untied.config.gated and untied.config.activation == "gelu_tanh" and not tied.config.gated


def test_weights_decide_whether_the_head_is_tied(tmp_path):
    """transformers 5 writes `tie_word_embeddings` true for weights that are not tied."""
    folder = shutil.copytree(reference.FIXTURES / "t5/v1_1", tmp_path / "untied")
    config_of(folder, tie_word_embeddings=True)
    model = kzoo.load(folder)
    assert (model.config.tie_embeddings, model.config.scale_logits) == (False, False)
    case = reference.read("t5/v1_1")
    reference.assert_equal(ops.convert_to_numpy(model(case.inputs)), case.expected["logits"])


@pytest.mark.parametrize("head", ["absent", "equal"])
@pytest.mark.parametrize("changes, scaled", [
    ({}, True), ({"tie_word_embeddings": False}, False), ({"scale_decoder_outputs": False}, False)], ids=str)
def test_a_tied_head_is_scaled_as_the_raw_config_says(tmp_path, head, changes, scaled):
    folder = shutil.copytree(reference.FIXTURES / "t5/v1_0", tmp_path / "tied")
    config_of(folder, **changes)
    if head == "equal":
        tensors = safetensors.numpy.load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]
        safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    config = kzoo.load(folder).config
    assert (config.tie_embeddings, config.scale_logits) == (True, scaled)


@pytest.mark.parametrize("stated", [False, True])
def test_mt5_is_t5_1_1(stated, tmp_path):
    folder = shutil.copytree(reference.FIXTURES / "t5/v1_1", tmp_path / "mt5")
    config_of(folder, model_type="mt5", architectures=["MT5ForConditionalGeneration"], tie_word_embeddings=stated)
    model, case = kzoo.load(folder), reference.read("t5/v1_1")
    assert model.config == case.model.config
    reference.assert_equal(ops.convert_to_numpy(model(case.inputs)), case.expected["logits"])
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    safetensors.numpy.save_file({**tensors, "lm_head.weight": tensors["shared.weight"]}, folder / "model.safetensors")
    tied = kzoo.load(folder).config
    assert (tied.tie_embeddings, tied.scale_logits) == (True, False)
    config_of(folder, model_type="t5", architectures=["T5ForConditionalGeneration"])
    assert kzoo.load(folder).config.scale_logits is stated  # of T5 itself they may be


def test_what_old_files_hold_besides_is_left_aside(tmp_path):
    folder = shutil.copytree(reference.FIXTURES / "t5/v1_0", tmp_path / "old")
    config_of(folder, architectures=["T5WithLMHeadModel"], n_positions=512)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = np.ones((8, 3), "float32")
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    assert kzoo.load(folder).newly_initialized == ()


def test_a_head_that_the_file_lacks_is_tied_or_reported(tmp_path):
    folder = shutil.copytree(reference.FIXTURES / "t5/v1_1", tmp_path / "bare")
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    config = kzoo.load(folder).config  # a class with a head has one somewhere: transformers 5 ties it
    assert (config.tie_embeddings, config.scale_logits) == (True, False)
    config_of(folder, architectures=["T5Model"])
    with pytest.warns(UserWarning, match="holds no weights for t5/output_embedding/embeddings"):
        model = kzoo.load(folder)
    assert (model.config.tie_embeddings, model.config.scale_logits) == (False, False)


def test_a_feed_forward_of_another_kind_is_refused(tmp_path):
    folder = shutil.copytree(reference.FIXTURES / "t5/v1_1", tmp_path / "mish")
    config_of(folder, feed_forward_proj="gated-mish")
    with pytest.raises(ValueError, match="`feed_forward_proj` in config.json is 'gated-mish'; supported are: relu"):
        kzoo.load(folder)


@pytest.mark.parametrize("task", ["translation", "summarization"])
def test_hugging_face_round_trip(case, task, tmp_path):
    model = kzoo.create("t5-small", task=task, **case.model.config.to_dict())
    model.set_weights(case.model.get_weights())
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    values = json.loads((tmp_path / "hf/config.json").read_text())
    assert values["architectures"] == ["T5ForConditionalGeneration"] and values["decoder_start_token_id"] == 0
    again = kzoo.load(tmp_path / "hf", task=task)
    assert again.config == model.config and again.task == task and again.newly_initialized == ()
    for ours, theirs in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))
    stored = safetensors.numpy.load_file(tmp_path / "hf/model.safetensors")
    there = safetensors.numpy.load_file(reference.FIXTURES / case.name / "model.safetensors")
    assert stored.keys() == there.keys()  # not a tensor more: no offsets of zeros


@pytest.mark.parametrize("changes, words", [
    ({"activation": "gelu", "gated": True}, "no word for `activation`='gelu' with `gated`=True"),
    ({"tie_embeddings": False}, "no room for `scale_logits`=True with `tie_embeddings`=False"),
])
def test_what_hugging_face_cannot_say_is_refused(changes, words, tmp_path):
    model = kzoo.create("t5-small", **TINY, **changes)
    with pytest.raises(ValueError, match=words):
        kzoo.save(model, tmp_path / "hf", format="hugging_face")
    assert not (tmp_path / "hf").exists()


def test_position_tables_belong_to_their_stack():
    """One table a stack, shared by its layers; cross-attention has none."""
    model = kzoo.create("t5-small", **TINY).backbone
    paths = [weight.path.split("t5/", 1)[1] for weight in model.weights]
    assert sorted(path for path in paths if "position" in path) == [
        "decoder_position/embeddings", "encoder_position/embeddings"]
    assert all(block.attention.position is model.decoder_position for block in model.decoder_blocks)
    assert all(block.attention.position is model.encoder_position for block in model.encoder_blocks)

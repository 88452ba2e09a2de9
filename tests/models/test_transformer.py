"""The Transformer of 2017 and Marian: config, sizes, the whole model written out, equality with the reference.

The folders in fixtures/marian were made by fixtures/make_seq2seq.py: transformers.MarianMTModel with every parameter
drawn anew, computed in float64.
"""
import json
import math
import shutil

import keras
import numpy as np
import pytest
import safetensors.numpy
from keras import ops

import kzoo
from kzoo.layers import SinusoidalPositions
from kzoo.models.transformer import PRESETS, TransformerBackbone, TransformerConfig
from tests.models import seq2seq_reference as reference

TINY = dict(vocabulary_size=29, num_layers=2, num_decoder_layers=3, num_heads=3, num_decoder_heads=2, hidden_dim=12,
            intermediate_dim=17, decoder_intermediate_dim=13, max_sequence_length=19, dropout=0.0)
B, S, T = 3, 9, 11
rng = np.random.default_rng(0)
IDS = {"encoder_token_ids": rng.integers(0, 29, (B, S)).astype("int32"),
       "decoder_token_ids": rng.integers(0, 29, (B, T)).astype("int32")}


def array(x):
    return ops.convert_to_numpy(x)


# The config.

@pytest.mark.parametrize("field, value, words", [
    ("vocabulary_size", 0, "`vocabulary_size` of TransformerConfig must be at least 1. Received: 0"),
    ("num_decoder_layers", 0, "`num_decoder_layers`.*at least 1"),
    ("num_heads", 5, r"`hidden_dim`.*divisible by the number of heads \(5\)"),
    ("num_decoder_heads", 7, r"`hidden_dim`.*divisible by the number of heads \(7\)"),
    ("decoder_intermediate_dim", 0, "`decoder_intermediate_dim`.*at least 1"),
    ("max_sequence_length", 0, "`max_sequence_length`.*at least 1"),
    ("dropout", 1.0, "`dropout`.*at least 0 and below 1"),
    ("attention_dropout", -0.1, "`attention_dropout`.*at least 0 and below 1"),
    ("activation_dropout", 1.5, "`activation_dropout`.*at least 0 and below 1"),
    ("activation", "swish", "Unknown activation 'swish'"),
    ("norm_placement", "before", "Unknown norm_placement 'before'"),
    ("position", "rotary", "Unknown position 'rotary'"),
    ("layer_norm_epsilon", 0.0, "`layer_norm_epsilon`.*above 0"),
    ("initializer_range", 0.0, "`initializer_range`.*above 0, or None"),
    ("target_vocabulary_size", 7, "`target_vocabulary_size`.*None with share_embeddings=True"),
    ("eos_id", 29, "`eos_id`.*an id below 29"),
    ("pad_id", -1, "`pad_id`.*an id below 29"),
])
def test_values_that_do_not_fit_are_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        TransformerConfig(**{**TINY, field: value})


def test_ids_must_be_in_both_vocabularies():
    with pytest.raises(ValueError, match="`eos_id`.*an id below 7"):
        TransformerConfig(**TINY, share_embeddings=False, target_vocabulary_size=7, eos_id=8)
    with pytest.raises(ValueError, match="`position`.*needs an even `hidden_dim`"):
        TransformerConfig(**{**TINY, "hidden_dim": 15, "num_decoder_heads": 1})


# Sizes.

def number_of_weights(config):
    """Counted from the architecture, not from our layers; what is tied counts once."""
    width = config.hidden_dim
    attention, norm = 4 * (width + 1) * width, 2 * width

    def feed_forward(inner):
        return 2 * width * inner + inner + width

    encoder = attention + feed_forward(config.intermediate_dim) + 2 * norm
    decoder = 2 * attention + feed_forward(config.decoder_intermediate_dim or config.intermediate_dim) + 3 * norm
    source, target = config.vocabulary_size, config.target_vocabulary_size or config.vocabulary_size
    rows = (source if config.share_embeddings else source + target) + (0 if config.tie_output else target)
    rows += 2 * config.max_sequence_length if config.position == "learned" else 0
    counts = config.layer_counts()
    return (counts["i"] * encoder + counts["j"] * decoder + rows * width
            + (target if config.output_bias else 0) + (2 * norm if config.norm_placement == "pre" else 0))


@pytest.mark.parametrize("changes", [
    {}, {"share_embeddings": False, "target_vocabulary_size": 23, "output_bias": True},
    {"tie_output": False, "norm_placement": "pre"}, {"position": "learned", "num_decoder_layers": None}], ids=str)
def test_the_count_is_the_models(changes):
    config = TransformerConfig(**{**TINY, **changes})
    model = TransformerBackbone(config)
    model.build()
    assert model.count_params() == number_of_weights(config)
    assert len({weight.path for weight in model.weights}) == len(model.weights)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_state_their_parameters(name):
    assert PRESETS[name].parameters == number_of_weights(PRESETS[name].config)


def test_the_multi30k_preset_is_the_recipes():
    config = PRESETS["transformer-tiny"].config
    assert (config.num_layers, config.hidden_dim, config.intermediate_dim, config.num_heads) == (4, 128, 256, 4)
    assert (config.norm_placement, config.activation, config.position, config.dropout) == ("post", "relu", "sinusoidal",
                                                                                           0.3)
    assert config.scale_embedding and config.share_embeddings and config.tie_output
    assert config.attention_dropout == config.activation_dropout == 0


def test_fresh_weights():
    keras.utils.set_random_seed(0)
    sizes = dict(vocabulary_size=300, num_layers=1, num_heads=2, hidden_dim=64, intermediate_dim=100)
    glorot = math.sqrt(2 / (64 + 64))
    for given, projection, kernel, table in ((None, glorot / math.sqrt(2), glorot, 1 / 8), (0.05, 0.05, 0.05, 0.05)):
        model = TransformerBackbone(TransformerConfig(**sizes, initializer_range=given, position="learned"))
        model.build()
        spreads = {weight.path.split("/", 1)[1]: float(ops.std(weight)) for weight in model.weights}
        for layer in ("encoder_block_0/attention", "decoder_block_0/cross_attention"):
            for name in ("query", "key", "value"):
                assert spreads[f"{layer}/{name}/kernel"] == pytest.approx(projection, rel=0.1)
            assert spreads[f"{layer}/output/kernel"] == pytest.approx(kernel, rel=0.1)
        assert spreads["encoder_block_0/feed_forward/up/kernel"] == pytest.approx(
            given or math.sqrt(2 / (64 + 100)), rel=0.1)
        assert spreads["token_embedding/embeddings"] == pytest.approx(table, rel=0.1)
        assert spreads["encoder_position/embeddings"] == pytest.approx(table, rel=0.1)


def test_each_dropout_stands_where_its_rate_says(monkeypatch):
    """On the embeddings and branches, on attention weights, inside the feed-forward."""
    seen = []

    def note(layer, inputs, training=False):
        seen.append((layer.rate, bool(training), len(inputs.shape), inputs.shape[-1]))
        return inputs

    monkeypatch.setattr(kzoo.layers.Dropout, "call", note)
    sizes = {**TINY, "num_layers": 1, "num_decoder_layers": 1, "dropout": 0.3}
    model = kzoo.create("transformer-base", **sizes, attention_dropout=0.2, activation_dropout=0.1)
    model(IDS, training=True)
    branch = (0.3, True, 3, 12)
    encoder = [branch, (0.2, True, 4, S), branch, (0.1, True, 3, 17), branch]
    decoder = [branch, (0.2, True, 4, T), branch, (0.2, True, 4, S), branch, (0.1, True, 3, 13), branch]
    assert seen == encoder + decoder


# The whole model, written out.

def normalized(x, weights, name):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * weights[f"{name}/scale"] + weights[f"{name}/bias"]


def dense(x, weights, name):
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def attended(x, source, heads, causal, weights, name):
    """softmax(Q K^T / sqrt(d)) V for each head; x (T, E), source (S, E)."""
    query, key, value = (dense(each, weights, f"{name}/{part}")
                         for part, each in (("query", x), ("key", source), ("value", source)))
    width, mixed = x.shape[1] // heads, np.zeros_like(x)
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        for t in range(len(x)):
            seen = slice(0, t + 1) if causal else slice(None)
            scores = np.exp(key[seen, own] @ query[t, own] / math.sqrt(width))
            mixed[t, own] = scores / scores.sum() @ value[seen, own]
    return dense(mixed, weights, f"{name}/output")


def stack(x, context, layers, heads, weights, name, placement):
    def branch(x, norm, function):
        if placement == "post":
            return normalized(x + function(x), weights, norm)
        return x + function(normalized(x, weights, norm))

    for i in range(layers):
        block = f"{name}_block_{i}"
        x = branch(x, f"{block}/attention_norm",
                   lambda x, block=block: attended(x, x, heads, name == "decoder", weights, f"{block}/attention"))
        if context is not None:
            x = branch(x, f"{block}/cross_attention_norm", lambda x, block=block: attended(
                x, context, heads, False, weights, f"{block}/cross_attention"))
        x = branch(x, f"{block}/feed_forward_norm", lambda x, block=block: dense(
            np.maximum(dense(x, weights, f"{block}/feed_forward/up"), 0), weights, f"{block}/feed_forward/down"))
    return x if placement == "post" else normalized(x, weights, f"{name}_norm")


def embedded(ids, table):
    """sqrt(E) * embedding + PE, PE[p, 2i] = sin(p / 10000^(2i/E)), PE[p, 2i+1] = cos of the same."""
    width, x = table.shape[1], []
    for position, token in enumerate(ids):
        wave = [math.sin(position / 10000 ** (feature / width)) if feature % 2 == 0
                else math.cos(position / 10000 ** ((feature - 1) / width)) for feature in range(width)]
        x.append(math.sqrt(width) * table[token] + wave)
    return np.array(x)


@pytest.mark.parametrize("placement, other", [("post", "pre"), ("pre", "post")])
def test_agrees_with_the_formula_written_out(placement, other, redraw):
    model = redraw(kzoo.create("transformer-base", **TINY, norm_placement=placement))
    weights = {weight.path.split("transformer/", 1)[1]: array(weight).astype("float64") for weight in model.weights}
    table = weights["token_embedding/embeddings"]
    result = array(model(IDS))
    if placement == "post":  # for `other`, which has none
        weights |= {f"{name}_norm/{part}": np.full(12, value) for name in ("encoder", "decoder")
                    for part, value in (("scale", 1.0), ("bias", 0.0))}
    for row in range(B):
        expected = {}
        for kind in (placement, other):
            context = stack(embedded(IDS["encoder_token_ids"][row], table), None, 2, 3, weights, "encoder", kind)
            hidden = stack(embedded(IDS["decoder_token_ids"][row], table), context, 3, 2, weights, "decoder", kind)
            expected[kind] = hidden @ table.T
        np.testing.assert_allclose(result[row], expected[placement], atol=1e-5 * expected[placement].std())
        assert np.abs(result[row] - expected[other]).max() > 0.1


@pytest.mark.parametrize("changes", [
    {"scale_embedding": False}, {"position": "sinusoidal_halves"}, {"activation": "gelu"}, {"layer_norm_epsilon": 0.01},
    {"num_heads": 4}], ids=str)
def test_each_switch_has_an_effect(changes, redraw):
    model = redraw(kzoo.create("transformer-base", **TINY), scale=1.0)
    other = kzoo.create("transformer-base", **{**TINY, **changes})
    other.set_weights(model.get_weights())
    assert np.abs(array(other(IDS)) - array(model(IDS))).max() > 1e-3


def test_an_input_longer_than_the_context_is_refused():
    model = kzoo.create("transformer-base", **TINY)
    for name in IDS:
        with pytest.raises(ValueError, match=f"`{name}` has 20 tokens a row; `max_sequence_length` is 19"):
            model({**IDS, name: np.zeros((B, 20), "int32")})
    with pytest.raises(ValueError, match="Model inputs lack `decoder_token_ids`. Received: encoder_token_ids"):
        model({"encoder_token_ids": IDS["encoder_token_ids"]})


# Equality with the reference.

@pytest.fixture(scope="module", params=["shared", "separate", "untied"])
def case(request):
    return reference.read(f"marian/{request.param}")


def test_logits_equal_the_reference(case):
    reference.assert_equal_logits(case)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_logits_equal_the_reference(side):
    reference.assert_equal_rows(reference.read("marian/shared"), side)


@pytest.mark.parametrize("name, changes", [
    ("shared", {"position": "sinusoidal"}), ("shared", {"num_decoder_heads": 5}),
    ("separate", {"activation": "gelu_tanh"}), ("untied", {"layer_norm_epsilon": 3e-5})], ids=str)
def test_a_small_difference_would_be_seen(name, changes):
    reference.assert_told_apart(reference.read(f"marian/{name}"), "marian-base", changes)


@pytest.mark.parametrize("name", ["shared", "separate"])
def test_gradients_equal_the_reference(name, gradients):
    reference.assert_equal_gradients(reference.read(f"marian/{name}"), gradients)


@pytest.mark.parametrize("name", ["shared", "separate"])
def test_generated_ids_equal_the_reference(name):
    reference.assert_equal_ids(reference.read(f"marian/{name}"))


# Checkpoints.

def copied(tmp_path, name="shared", **changes):
    folder = shutil.copytree(reference.FIXTURES / "marian" / name, tmp_path / name)
    values = {**json.loads((folder / "config.json").read_text()), **changes}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def add_tensors(folder, **tensors):
    stored = safetensors.numpy.load_file(folder / "model.safetensors")
    safetensors.numpy.save_file({**stored, **{name.replace("__", "."): tensor for name, tensor in tensors.items()}},
                                folder / "model.safetensors")


def test_what_files_say_is_read(tmp_path):
    config = reference.read("marian/shared").model.config
    assert (config.num_layers, config.num_decoder_layers, config.num_heads, config.num_decoder_heads) == (2, 1, 5, 4)
    assert (config.intermediate_dim, config.decoder_intermediate_dim) == (37, 29)
    assert (config.activation, config.position, config.output_bias) == ("silu", "sinusoidal_halves", True)
    assert (config.pad_id, config.decoder_start_id) == (41, 41)
    assert not reference.read("marian/separate").model.config.share_embeddings
    assert not reference.read("marian/untied").model.config.tie_output
    same = copied(tmp_path, decoder_start_token_id=None, decoder_vocab_size=None)
    assert kzoo.load(same).config == config


REPEATED = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")


@pytest.mark.parametrize("tie_output", [True, False])
def test_tables_are_repeated_in_a_file_where_transformers_would_not_tie_them(tmp_path, tie_output):
    model = reference.read("marian/shared" if tie_output else "marian/untied").model
    kzoo.save(model, tmp_path / "out", format="hugging_face")
    stored = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
    assert set(REPEATED).intersection(stored) == set(() if tie_output else REPEATED)
    for name in () if tie_output else REPEATED:
        np.testing.assert_array_equal(stored[name], stored["model.shared.weight"])
    again = kzoo.load(tmp_path / "out")
    for ours, theirs in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


def test_generation_config_fills_in_what_config_lacks(tmp_path):
    """transformers moves there what it takes to be about generation."""
    folder = copied(tmp_path)
    values = json.loads((folder / "config.json").read_text())
    moved = {name: values.pop(name) for name in ("pad_token_id", "eos_token_id", "decoder_start_token_id")}
    (folder / "config.json").write_text(json.dumps(values))
    (folder / "generation_config.json").write_text(json.dumps({**moved, "num_beams": 6}))
    assert kzoo.load(folder).config == reference.read("marian/shared").model.config
    (folder / "generation_config.json").write_text("[]")
    with pytest.raises(ValueError, match="generation_config.json"):
        kzoo.load(folder)


@pytest.mark.parametrize("changes, words", [
    ({"normalize_before": True}, "`normalize_before` in config.json is True; supported is only false"),
    ({"normalize_embedding": True}, "`normalize_embedding`"),
    ({"activation_function": "mish"}, "`activation_function` in config.json is 'mish'; supported are: swish"),
    ({"pad_token_id": "x"}, "`pad_id` of TransformerConfig must be int"),
])
def test_what_is_not_supported_is_refused(changes, words, tmp_path):
    with pytest.raises(ValueError, match=f"config.json: .*{words}"):
        kzoo.load(copied(tmp_path, **changes))


def test_stored_sinusoids_are_checked(tmp_path):
    folder = copied(tmp_path)
    waves = array(SinusoidalPositions(20, interleaved=False)(np.arange(31, dtype="int32")[None]))[0]
    add_tensors(folder, model__encoder__embed_positions__weight=waves.astype("float16"))
    assert kzoo.load(folder).config == reference.read("marian/shared").model.config
    add_tensors(folder, model__decoder__embed_positions__weight=waves[:, ::-1].copy())
    with pytest.raises(ValueError, match="'model.decoder.embed_positions.weight' differs from the sinusoids"):
        kzoo.load(folder)


def test_all_names_of_a_shared_table_may_be_stored(tmp_path):
    folder = copied(tmp_path)
    table = safetensors.numpy.load_file(folder / "model.safetensors")["model.shared.weight"]
    add_tensors(folder, model__encoder__embed_tokens__weight=table, model__decoder__embed_tokens__weight=table,
                lm_head__weight=table)
    assert kzoo.load(folder).newly_initialized == ()
    add_tensors(folder, lm_head__weight=table + 1)
    with pytest.raises(ValueError, match="'lm_head.weight' differs from the one it is tied to"):
        kzoo.load(folder)


def test_a_bare_backbone_reports_its_new_head(tmp_path):
    folder = copied(tmp_path, "untied", architectures=["MarianModel"])
    stored = safetensors.numpy.load_file(folder / "model.safetensors")
    bare = {name.removeprefix("model."): tensor for name, tensor in stored.items() if name.startswith("model.")}
    safetensors.numpy.save_file(bare, folder / "model.safetensors")
    with pytest.warns(UserWarning, match="holds no weights for transformer/output_bias, transformer/output_embedding"):
        assert len(kzoo.load(folder).newly_initialized) == 2


def test_hugging_face_round_trip(case, tmp_path):
    model = case.model
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    values = json.loads((tmp_path / "hf/config.json").read_text())
    assert values["architectures"] == ["MarianMTModel"] and values["bad_words_ids"] == [[41]]
    assert values["decoder_start_token_id"] == values["pad_token_id"] == 41
    assert values["forced_eos_token_id"] == values["eos_token_id"] == model.config.eos_id
    again = kzoo.load(tmp_path / "hf")
    assert again.config == model.config and again.newly_initialized == ()
    for ours, theirs in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(array(ours), array(theirs))
    there = safetensors.numpy.load_file(reference.FIXTURES / case.name / "model.safetensors")
    stored = safetensors.numpy.load_file(tmp_path / "hf/model.safetensors")
    shapes = {key: tensor.shape for key, tensor in there.items()}
    repeated = REPEATED if case.name.endswith("untied") else ()  # the fixture's writer leaves them out
    shapes.update(dict.fromkeys(repeated, shapes.get("model.shared.weight")))
    assert {key: tensor.shape for key, tensor in stored.items()} == shapes


def test_a_translator_without_the_bias_comes_back(tmp_path):
    model = kzoo.create("marian-base", **TINY, output_bias=False, pad_id=0, decoder_start_id=0, eos_id=1)
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    assert kzoo.load(tmp_path / "hf").config == model.config
    add_tensors(tmp_path / "hf", final_logits_bias=np.zeros((1, model.config.vocabulary_size), "float32"))
    assert kzoo.load(tmp_path / "hf").config == model.config.replace(output_bias=True)  # as transformers saves it again
    lost = copied(tmp_path / "lost")
    stored = safetensors.numpy.load_file(lost / "model.safetensors")
    del stored["final_logits_bias"]
    safetensors.numpy.save_file(stored, lost / "model.safetensors")
    with pytest.raises(ValueError, match="lacks the tensor 'final_logits_bias'"):
        kzoo.load(lost)


@pytest.mark.parametrize("changes", [{}, {"norm_placement": "pre", "position": "sinusoidal_halves"},
                                     {"position": "learned"}], ids=str)
def test_what_hugging_face_has_no_room_for_is_refused(changes, tmp_path):
    model = kzoo.create("transformer-base", **TINY, **changes)
    with pytest.raises(ValueError, match="Hugging Face's 'marian' has no room for `(position|norm_placement)`="):
        kzoo.save(model, tmp_path / "hf", format="hugging_face")
    assert not (tmp_path / "hf").exists()

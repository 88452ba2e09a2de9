"""GPT-2: its config, its sizes, and equality with the reference implementation.

The folders in fixtures/gpt2 were made by fixtures/make_gpt2.py: transformers.GPT2LMHeadModel with every parameter drawn
anew from N(0, 0.3), computed in float64.
"""
import json
import pathlib

import keras
import numpy as np
import pytest
import safetensors.numpy
from keras import ops

import kzoo
from kzoo.backend import compile_function
from kzoo.models.gpt2 import GPT2_WEIGHTS, PRESETS, GPT2Backbone, GPT2Config
from kzoo.weight_table import expand

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"
TINY = dict(vocabulary_size=29, num_layers=2, num_heads=4, hidden_dim=24, intermediate_dim=37, max_sequence_length=19)


# The config.

@pytest.mark.parametrize("field, value, words", [
    ("num_heads", 5, "`hidden_dim` of GPT2Config must be divisible by `num_heads` .5.. Received: 24"),
    ("num_key_value_heads", 3, "must divide `num_heads` .4.. Received: 3"),
    ("num_key_value_heads", 0, "must divide `num_heads`"),
    ("vocabulary_size", 0, "`vocabulary_size` of GPT2Config must be at least 1. Received: 0"),
    ("num_layers", -1, "`num_layers`.*at least 1"),
    ("max_sequence_length", 0, "`max_sequence_length`.*at least 1"),
    ("intermediate_dim", 0, "`intermediate_dim`.*at least 1, or None for 4"),
    ("dropout", 1.0, "`dropout`.*at least 0 and below 1"),
    ("layer_norm_epsilon", 0.0, "`layer_norm_epsilon`.*above 0"),
    ("initializer_range", 0.0, "`initializer_range`.*above 0"),
    ("activation", "gelu_new", "Unknown activation 'gelu_new'"),
    ("position", "rotery", "Unknown position 'rotery'. Did you mean 'rotary'"),
])
def test_values_that_do_not_fit_are_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        GPT2Config(**{**TINY, field: value})


def test_positions_that_need_even_widths():
    with pytest.raises(ValueError, match="needs an even head_dim, which here is 3"):
        GPT2Config(**{**TINY, "num_heads": 8, "position": "rotary"})
    with pytest.raises(ValueError, match="needs an even `hidden_dim` .9."):
        GPT2Config(**{**TINY, "num_heads": 3, "hidden_dim": 9, "position": "sinusoidal"})


# Sizes.

def number_of_weights(config):
    """Counted from the architecture, not from our layers; what is tied counts once."""
    width, inner = config.hidden_dim, config.intermediate_dim or 4 * config.hidden_dim
    keys = (config.num_key_value_heads or config.num_heads) * width // config.num_heads
    offset = 1 if config.use_bias else 0
    attention = 2 * (width + offset) * width + 2 * (width + offset) * keys
    block = attention + (width + offset) * inner + (inner + offset) * width + 2 * (1 + offset) * width
    positions = config.max_sequence_length * width if config.position == "learned" else 0
    return config.vocabulary_size * width + positions + config.num_layers * block + (1 + offset) * width


@pytest.mark.parametrize("changes", [{}, {"use_bias": False, "position": "alibi"}, {"num_key_value_heads": 2},
                                     {"intermediate_dim": None, "num_layers": 3}], ids=str)
def test_the_count_is_the_models(changes):
    config = GPT2Config(**{**TINY, **changes})
    model = GPT2Backbone(config)
    model.build()
    assert model.count_params() == number_of_weights(config)
    assert number_of_weights(config) != number_of_weights(config.replace(hidden_dim=28))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_state_their_parameters(name):
    assert PRESETS[name].parameters == number_of_weights(PRESETS[name].config)


def test_residual_projections_start_smaller():
    keras.utils.set_random_seed(0)
    config = GPT2Config(vocabulary_size=50, num_layers=8, num_heads=4, hidden_dim=64)
    model = GPT2Backbone(config)
    model.build()
    spreads = {weight.path.split("/", 1)[1]: float(ops.std(weight)) for weight in model.weights}
    assert spreads["token_embedding/embeddings"] == pytest.approx(0.02, rel=0.1)
    for name in ("attention/query", "attention/key", "attention/value", "feed_forward/up"):
        assert spreads[f"block_3/{name}/kernel"] == pytest.approx(0.02, rel=0.1)
    for name in ("attention/output", "feed_forward/down"):
        assert spreads[f"block_3/{name}/kernel"] == pytest.approx(0.02 / np.sqrt(2 * 8), rel=0.1)
        assert spreads[f"block_3/{name}/bias"] == 0
    assert spreads["final_norm/scale"] == 0


def test_dropout_stands_where_the_reference_has_it(monkeypatch):
    """On the embeddings, the attention weights, and the output of each branch; at the config's rate."""
    seen = []

    def note(layer, inputs, training=False):
        if layer.rate:
            seen.append((layer.rate, bool(training), len(inputs.shape)))
        return inputs

    monkeypatch.setattr(kzoo.layers.Dropout, "call", note)
    model = kzoo.create("gpt2-nano", **TINY, dropout=0.3)
    model({"token_ids": np.zeros((1, 5), "int32")}, training=True)
    per_layer = [(0.3, True, 4), (0.3, True, 3), (0.3, True, 3)]  # weights (B, H, T, S), then two branches (B, T, E)
    assert seen == [(0.3, True, 3)] + per_layer * TINY["num_layers"]


def test_an_input_longer_than_the_context_is_refused():
    model = kzoo.create("gpt2-nano", **TINY)
    with pytest.raises(ValueError, match="`token_ids` has 20 tokens a row; `max_sequence_length` is 19"):
        model({"token_ids": np.zeros((1, 20), "int32")})


def test_positions_come_from_the_sequence_not_from_the_ids():
    """The table of positions is read at 0, 1, 2, ...: the same token at two places must not get the same vector."""
    model = kzoo.create("gpt2-nano", **TINY, initializer_range=0.3)
    logits = ops.convert_to_numpy(model({"token_ids": np.full((1, 5), 3, "int32")}))[0]
    table = model.backbone.position_embedding.embeddings
    assert len(np.unique(logits.round(4), axis=0)) == 5
    before = ops.convert_to_numpy(table).copy()
    table.assign(before * np.isin(np.arange(19), range(5))[:, None])
    np.testing.assert_array_equal(ops.convert_to_numpy(model({"token_ids": np.full((1, 5), 3, "int32")}))[0], logits)


# Equality with the reference.

@pytest.fixture(scope="module", params=["plain", "by_layer", "unscaled"])
def reference(request):
    """(model, what the reference computed with its weights)."""
    folder = FIXTURES / "gpt2" / request.param
    with np.load(folder / "expected.npz", allow_pickle=False) as file:
        return kzoo.load(folder), dict(file)


def assert_equal_logits(model, inputs, expected, real=slice(None)):
    result = ops.convert_to_numpy(compile_function(model, lambda: model(inputs))())
    np.testing.assert_allclose(result[real], expected[real], rtol=0, atol=1e-5 * expected.std())


def test_logits_equal_the_reference(reference):
    model, expected = reference
    assert_equal_logits(model, {"token_ids": expected["token_ids"]}, expected["logits"])


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_logits_equal_the_reference(reference, side):
    model, expected = reference
    mask = expected[f"{side}_mask"]
    assert not mask.all()
    inputs = {"token_ids": expected["token_ids"], "padding_mask": mask}
    assert_equal_logits(model, inputs, expected[f"{side}_logits"], mask)


def test_a_small_difference_would_be_seen(reference):
    """The other GELU, an epsilon 10 % off and a scale too many are each told apart by the tolerance above."""
    model, expected = reference
    config = model.config
    changes = {"gelu_tanh": {"activation": "gelu"}, "gelu": {"layer_norm_epsilon": config.layer_norm_epsilon * 1.1},
               "silu": {"scale_scores": True}}[config.activation]
    other = kzoo.create("gpt2-small", **{**config.to_dict(), **changes})
    other.set_weights(model.get_weights())
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_equal_logits(other, {"token_ids": expected["token_ids"]}, expected["logits"])


def test_gradients_equal_the_reference(reference, gradients):
    model, expected = reference
    token_ids = expected["token_ids"]

    def loss():
        probabilities = ops.log_softmax(model({"token_ids": token_ids})[:, :-1], axis=-1)
        return -ops.mean(ops.take_along_axis(probabilities, token_ids[:, 1:, None], axis=2))

    assert float(compile_function(model, loss)()) == pytest.approx(float(expected["loss"]), rel=1e-5)
    found = dict(zip((variable.path.split("/", 2)[2] for variable in model.trainable_variables),
                     gradients(model, loss), strict=True))
    rows = {entry.stored: entry.variables for entry in expand(GPT2_WEIGHTS, model.config.layer_counts())}
    names = [name.removeprefix("gradient:") for name in expected if name.startswith("gradient:")]
    assert len(names) == 3
    for name in names:
        wanted = expected[f"gradient:{name}"]
        ours = np.concatenate([found[path] for path in rows[name]], axis=-1)
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max(), err_msg=name)


def test_generated_ids_equal_the_reference(reference):
    model, expected = reference
    prompts = [row[mask].tolist() for row, mask in zip(expected["token_ids"], expected["left_mask"], strict=True)]
    steps = expected["greedy_after_left"].shape[1]
    continued = model.generate(prompts, max_new_tokens=steps)
    assert [row[-steps:] for row in continued] == expected["greedy_after_left"].tolist()


def test_a_published_random_model_gives_its_published_numbers(shared, tmp_path):
    """hf-internal-testing/tiny-random-gpt2, with the values that onnxruntime-genai tests against."""
    folder = shared / "data" / "weights" / "tiny-random-gpt2-onnx"
    expected = json.loads((folder / "expected.json").read_text())
    sizes = {name: expected["config"][name] for name in ("n_layer", "n_head", "n_embd", "n_inner", "n_positions",
                                                         "vocab_size", "layer_norm_epsilon")}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", **sizes}))
    with np.load(folder / "tiny-random-gpt2.npz", allow_pickle=False) as weights:
        safetensors.numpy.save_file(dict(weights), tmp_path / "model.safetensors")
    model = kzoo.load(tmp_path)
    logits = ops.convert_to_numpy(model({"token_ids": np.array(expected["prompt"], "int32")}))
    assert list(logits.shape) == expected["prompt_logits_shape"]
    np.testing.assert_allclose(logits.ravel()[::200], expected["prompt_logits_flat_every_200"],
                               atol=expected["logit_tolerance"])
    ids = model.generate(expected["prompt"], max_new_tokens=6)
    assert ids == expected["greedy_max_length_10"]


# Patterns and positions with settings.

@pytest.mark.parametrize("position, number", [({"name": "relative", "num_buckets": 8, "max_distance": 9}, 8 * 4),
                                              ({"name": "shaw", "max_distance": 2}, 2 * 2 * 5 * 6),
                                              ("transformer_xl", 2 * (24 * 24 + 2 * 24)),
                                              ({"name": "axial", "shape": [4, 5], "dims": [8, 16]}, 4 * 8 + 5 * 16)])
def test_positions_with_weights(position, number, tmp_path):
    """One table for all layers, or two in each: counted, saved, and the same with a cache and from blocks."""
    model = kzoo.create("gpt2-nano", **TINY, position=position, initializer_range=0.3)
    assert model.count_params() == number + number_of_weights(model.config)
    kzoo.save(model, tmp_path / "run")
    again = kzoo.load(tmp_path / "run")
    token_ids = np.random.default_rng(0).integers(0, 29, (2, 11)).astype("int32")
    expected = ops.convert_to_numpy(model({"token_ids": token_ids}))
    np.testing.assert_array_equal(ops.convert_to_numpy(again({"token_ids": token_ids})), expected)
    blocks = kzoo.create("gpt2-nano", **TINY, position=position, pattern={"name": "blockwise", "block_size": 4})
    blocks.set_weights(model.get_weights())
    np.testing.assert_allclose(ops.convert_to_numpy(blocks({"token_ids": token_ids})), expected, atol=1e-5)
    plain = kzoo.create("gpt2-nano", **TINY, position="none")
    plain.set_weights([weight.numpy() for weight in model.weights if "position" not in weight.path])
    assert np.abs(ops.convert_to_numpy(plain({"token_ids": token_ids})) - expected).max() > 0.01


def test_layers_of_a_sparse_pattern_draw_differently():
    model = kzoo.create("gpt2-nano", **TINY, pattern={"name": "block_sparse", "block_size": 2, "seed": 5})
    assert [block.attention.pattern.seed for block in model.backbone.blocks] == [5, 6]


def test_parts_that_do_not_fit_are_refused_when_a_config_is_made():
    with pytest.raises(ValueError, match="Hierarchical attention cannot work with ShawRelative"):
        GPT2Config(**TINY, position="shaw", pattern={"name": "hierarchical", "segment_size": 4})
    with pytest.raises(ValueError, match="The pattern 'block_local' needs `block_size`"):
        GPT2Config(**TINY, pattern="block_local")
    with pytest.raises(ValueError, match="Unknown setting of the position 'rotary' 'scale'"):
        GPT2Config(**TINY, position={"name": "rotary", "scale": 2.0})


def test_a_pattern_that_hugging_face_has_not_stays_here(tmp_path):
    model = kzoo.create("gpt2-nano", **TINY, pattern={"name": "strided", "stride": 4})
    with pytest.raises(ValueError, match="'gpt2' has no room for `pattern`=.*keep it in the kzoo format"):
        kzoo.save(model, tmp_path / "hf", format="hugging_face")
    kzoo.save(kzoo.create("gpt2-nano", **TINY, pattern="blockwise"), tmp_path / "hf", format="hugging_face")
    assert kzoo.load(tmp_path / "hf").config.pattern == "full"  # which computes the same


def test_a_pattern_without_a_cache_says_so():
    model = kzoo.create("gpt2-nano", **TINY, pattern={"name": "hierarchical", "segment_size": 4})
    with pytest.raises(ValueError, match="cannot go on from a cache"):
        model.generate([1, 2, 3], max_new_tokens=2)

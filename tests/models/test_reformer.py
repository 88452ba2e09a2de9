"""Reformer: its config, its sizes, and equality with the reference implementation.

The folders in fixtures/reformer were made by fixtures/make_reformer.py: transformers' classes with every parameter
drawn anew from N(0, 0.3), computed in float64, with rotations that it wrote down.
"""
import json
import pathlib
import warnings

import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.backend import compile_function
from kzoo.checkpoint import variables_by_path
from kzoo.hugging_face import layout_of
from kzoo.models.reformer import PRESETS, ReformerBackbone, ReformerConfig
from kzoo.tasks.task import build_task

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "reformer"
TASKS = ("text-generation", "fill-mask", "text-classification", "question-answering")
# JAX compiles each model anew, and outside of a compiled function each operation.
JAX = keras.backend.backend() == "jax"
not_on_jax = pytest.mark.skipif(JAX, reason="on JAX this compiles for long, and what it tests is the same there")
T, SHORT = 21, 4  # of the fixtures: no multiple of a chunk, and within one
TINY = dict(vocabulary_size=29, num_layers=2, num_heads=3, head_dim=5, hidden_dim=14, intermediate_dim=17,
            max_sequence_length=40, num_buckets=4, lsh_chunk_length=4, local_chunk_length=6, axial_shape=(5, 8),
            axial_dims=(5, 9))
IDS = np.random.default_rng(0).integers(0, 29, (2, 21)).astype("int32")


# The config.

@pytest.mark.parametrize("changes, words", [
    ({"num_layers": 0}, "`num_layers` of ReformerConfig must be at least 1. Received: 0"),
    ({"feed_forward_chunk_size": 0}, "`feed_forward_chunk_size`.*at least 1"),
    ({"lsh_chunks_before": -1}, "`lsh_chunks_before`.*at least 0"),
    ({"causal": True, "local_chunks_after": 1}, "`local_chunks_after`.*must be 0 where `causal` is true"),
    ({"dropout": 1.0}, "`dropout`.*at least 0 and below 1"),
    ({"axial_range": 0.0}, "`axial_range`.*above 0"),
    ({"attention_layers": ()}, "`attention_layers`.*at least one kind"),
    ({"attention_layers": ("lhs",)}, "Unknown kind of attention 'lhs'. Did you mean 'lsh'"),
    ({"axial_dims": None}, "`axial_dims`.*if and only if `axial_shape` is"),
    ({"axial_shape": (5, 2, 4)}, "`axial_shape`.*two numbers"),
    ({"axial_shape": (5, 7)}, "`axial_shape`.*place for `max_sequence_length` .40. tokens"),
    ({"axial_dims": (5, 8)}, "`axial_dims`.*add up to `hidden_dim` .14."),
    ({"num_buckets": (4, 3)}, "`num_buckets` must be an even number.*Received: .4, 3."),
    ({"activation": "gelu_new"}, "Unknown activation 'gelu_new'"),
])
def test_values_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        ReformerConfig(**{**TINY, **changes})


@pytest.mark.parametrize("length, chunk, buckets", [
    (40, 4, (4, 4)), (4096, 64, 128), (65536, 256, 512), (524288, 64, (128, 128)), (3, 4, 2)])
def test_buckets_follow_from_the_longest_input(length, chunk, buckets):
    """A power of two up to 2 T / chunk, in two factors where it is large."""
    config = ReformerConfig(**{**TINY, "num_buckets": None, "max_sequence_length": length, "lsh_chunk_length": chunk,
                               "axial_shape": (1024, 1024)})
    assert config.buckets() == buckets
    assert config.replace(num_buckets=(2, 8)).buckets() == (2, 8)


def test_rows_are_filled_up_to_whole_chunks():
    config = ReformerConfig(**TINY)
    assert [config.padded_length(length) for length in (3, 4, 5, 12, 13)] == [3, 4, 12, 12, 24]
    assert config.replace(attention_layers=("lsh",)).padded_length(13) == 16
    assert config.replace(num_layers=5, attention_layers=("lsh", "local", "local")).kinds() == (
        "lsh", "local", "local", "lsh", "local")


@not_on_jax
def test_the_task_decides_who_sees_whom():
    for task in TASKS:
        settings = {"labels": ("a", "b")} if task == "text-classification" else {}
        model = kzoo.create("reformer-nano", task=task, **TINY, **settings)
        assert model.config.causal == (task == "text-generation")


# Sizes.

def number_of_weights(config):
    """Of a language model, counted from the architecture, not from our layers."""
    width, inner, heads = config.hidden_dim, config.intermediate_dim, config.num_heads * config.head_dim
    rest = (width + 1) * inner + (inner + 1) * width + 4 * width
    blocks = sum((4 if kind == "local" else 3) * width * heads + rest for kind in config.kinds())
    positions = config.max_sequence_length * width
    if config.axial_shape is not None:
        positions = sum(n * d for n, d in zip(config.axial_shape, config.axial_dims, strict=True))
    return config.vocabulary_size * width + positions + blocks + 4 * width + (2 * width + 1) * config.vocabulary_size


@not_on_jax
@pytest.mark.parametrize("changes", [{}, {"axial_shape": None, "axial_dims": None, "num_layers": 3}], ids=str)
def test_the_count_is_the_models(changes):
    model = kzoo.create("reformer-nano", **{**TINY, **changes})
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == number_of_weights(model.config)
    rotations = [weight for weight in model.weights if weight.name == "rotations"]
    assert [tuple(weight.shape) for weight in rotations] == [(3, 5, 2, 2)] and not rotations[0].trainable


@pytest.mark.parametrize("name", PRESETS)
def test_presets_state_their_parameters(name):
    """As published: reformer-enwik8 149 M."""
    assert PRESETS[name].parameters == number_of_weights(PRESETS[name].config)


@not_on_jax
def test_rotations_follow_from_the_seed_alone():
    first, same, other = (ReformerBackbone(ReformerConfig(**TINY, attention_layers=("lsh",), hash_seed=seed))
                          for seed in (3, 3, 4))
    drawn = []
    for backbone in (first, same, other):
        keras.utils.set_random_seed(len(drawn))
        backbone.build()
        drawn.append([ops.convert_to_numpy(block.attention.rotations) for block in backbone.stack.blocks])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0][0] - drawn[0][1]).max() > 0.1 and np.abs(drawn[0][0] - drawn[2][0]).max() > 0.1


@not_on_jax
def test_dropout_stands_where_the_reference_has_it(monkeypatch):
    """On embeddings, positions, attention weights, inside the feed-forward, both branches, and the hidden states."""
    seen = []

    def note(layer, inputs, training=False):
        if layer.rate:
            seen.append((layer.rate, bool(training), inputs.shape[-1]))
        return inputs

    monkeypatch.setattr(kzoo.layers.Dropout, "call", note)
    model = kzoo.create("reformer-nano", **TINY, reversible=False, dropout=0.3, lsh_attention_dropout=0.1,
                        local_attention_dropout=0.2)
    model({"token_ids": IDS}, training=True)
    per_layer = [[(rate, True, keys), (0.3, True, 14), (0.3, True, 17), (0.3, True, 14)]
                 for rate, keys in ((0.2, 12), (0.1, 8))]
    assert seen == [(0.3, True, 14)] * 2 + per_layer[0] + per_layer[1] + [(0.3, True, 28)]


@not_on_jax
def test_a_length_that_is_not_known_is_refused():
    model = kzoo.create("reformer-nano", **TINY)
    import tensorflow as tf

    with pytest.raises(ValueError, match="needs `token_ids` of a length that is known when the model is traced"):
        tf.function(lambda token_ids: model({"token_ids": token_ids}), autograph=False).get_concrete_function(
            tf.TensorSpec((None, None), "int32"))
    with pytest.raises(ValueError, match="`token_ids` has 41 tokens a row; `max_sequence_length` is 40"):
        model({"token_ids": np.zeros((1, 41), "int32")})
    with pytest.raises(ValueError, match="`positions` cannot be given with a cache"):
        model.forward({"token_ids": IDS, "positions": IDS}, model.backbone.empty_cache(2))


# Hashed rows.

@not_on_jax
def test_padding_makes_no_difference_on_either_side():
    """As long as rows are filled up to the same length: 19 and 22 tokens to 24."""
    model = kzoo.create("reformer-nano", **TINY, num_hashes=2, initializer_range=0.3)
    expected = ops.convert_to_numpy(model({"token_ids": IDS[:, :19]}))
    for side in ((3, 0), (0, 3), (1, 2)):
        ids = np.pad(IDS[:, :19], ((0, 0), side), constant_values=7)
        mask = np.pad(np.ones((2, 19), bool), ((0, 0), side))
        result = ops.convert_to_numpy(model({"token_ids": ids, "padding_mask": mask}))
        np.testing.assert_allclose(result[mask].reshape(expected.shape), expected, atol=2e-6)
    without = ops.convert_to_numpy(model({"token_ids": ids}))
    assert np.abs(without[mask].reshape(expected.shape) - expected).max() > 0.01


@not_on_jax
def test_a_fixed_length_makes_answers_independent_of_padding():
    """Also where the length is known only when the model runs."""
    import tensorflow as tf

    model = kzoo.create("reformer-nano", task="fill-mask", **TINY, num_hashes=2, initializer_range=0.3,
                        fixed_length=True)
    traced = tf.function(
        lambda token_ids, mask: model({"token_ids": token_ids, "padding_mask": mask}), autograph=False,
        input_signature=[tf.TensorSpec((None, None), kind) for kind in ("int32", "bool")])
    expected = ops.convert_to_numpy(model({"token_ids": IDS[:, :11]}))
    for side in ((0, 0), (0, 19), (6, 2)):
        ids, mask = (np.pad(each, ((0, 0), side)) for each in (IDS[:, :11], np.ones((2, 11), bool)))
        result = ops.convert_to_numpy(traced(ids, mask))
        assert result.shape == (*ids.shape, 29)
        np.testing.assert_allclose(result[mask].reshape(expected.shape), expected, atol=2e-6)
    without = model.config.replace(fixed_length=False)
    assert without.padded_length(11) != without.padded_length(30)


@not_on_jax
def test_generation_reads_all_tokens_again():
    """Each new token is that of the whole row so far, filled up to the same length."""
    model = kzoo.create("reformer-nano", **TINY, num_hashes=2, initializer_range=0.3)
    prompts = [[3, 1, 4, 1, 5], [9, 2, 6, 5, 3, 5, 8]]
    results = model.generate(prompts, max_new_tokens=6)
    capacity = 32  # what 7 + 6 tokens are rounded up to
    ids = np.zeros((2, capacity), "int32")
    for row, (prompt, result) in enumerate(zip(prompts, results, strict=True)):
        assert result[:len(prompt)] == prompt and len(result) == len(prompt) + 6
        ids[row, :len(result)] = result
    for new in (0, 5):
        lengths = np.array([len(prompt) + new for prompt in prompts])
        logits = ops.convert_to_numpy(model({"token_ids": ids, "padding_mask": np.arange(capacity) < lengths[:, None]}))
        assert logits[[0, 1], lengths - 1].argmax(axis=-1).tolist() == ids[[0, 1], lengths].tolist()


# Equality with the reference.

def load(task, **changes):
    """(model with the reference's weights and rotations, what it computed)."""
    folder = FIXTURES / task
    with np.load(folder / "expected.npz", allow_pickle=False) as file, warnings.catch_warnings():
        warnings.simplefilter("error")
        model, expected = kzoo.load(folder), dict(file)
    for variable in model.non_trainable_variables:
        if variable.name == "rotations":
            variable.assign(expected["rotations"])
    if changes:
        other = build_task(model.family, model.config.replace(**changes), task, **model.settings())
        other.set_weights(model.get_weights())
        model = other
    return model, expected


@pytest.fixture(scope="module", params=("fill-mask",) if JAX else TASKS)
def reference(request):
    return load(request.param)


def outputs(model, inputs, **options):
    result = model(inputs, **options)
    return result if isinstance(result, dict) else {"logits": result}


def assert_equal_outputs(model, expected):
    """Rows that are padded by the model, by the caller on either side, and rows within a chunk."""
    mask, ids = expected["right_mask"], expected["token_ids"][:, :T]
    left = np.zeros_like(ids)
    for row, count in enumerate(mask.sum(axis=1)):
        left[row, T - count:] = ids[row, :count]
    inputs = {"token_ids": np.concatenate([ids, ids, left]),
              "padding_mask": np.concatenate([np.ones_like(mask), mask, mask[:, ::-1]])}
    tensors = {name: ops.convert_to_tensor(value) for name, value in inputs.items()}
    found = compile_function(model, lambda inputs: outputs(model, inputs))(tensors)
    short = compile_function(model, lambda ids: outputs(model, {"token_ids": ids}))(
        ops.convert_to_tensor(ids[:, :SHORT]))
    for name, result in found.items():
        whole, right, to_left = np.split(ops.convert_to_numpy(result), 3)
        pairs = [(whole, expected[name]), (ops.convert_to_numpy(short[name]), expected[f"short:{name}"])]
        wanted = expected[f"right:{name}"]
        if model.task == "text-classification":
            pairs += [(right, wanted), (to_left, wanted)]
        else:
            pairs += [(right[mask], wanted[mask]), (to_left[mask[:, ::-1]], wanted[mask])]
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.sqrt(np.mean(theirs ** 2)), err_msg=name)


def test_outputs_equal_the_reference(reference):
    assert_equal_outputs(*reference)


@not_on_jax
@pytest.mark.parametrize("task, changes", [
    ("text-generation", {"local_chunks_before": 2}), ("fill-mask", {"lsh_chunks_after": 0}),
    ("question-answering", {"num_buckets": (2, 4)})], ids=str)
def test_a_small_difference_would_be_seen(task, changes):
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_equal_outputs(*load(task, **changes))


@pytest.mark.parametrize("reference", ("fill-mask",) if JAX else ("text-generation", "fill-mask"), indirect=True)
def test_gradients_equal_the_reference(reference, gradients):
    """Of the stack that recomputes what lies between, as the reference's does."""
    model, expected = reference
    inputs = {"token_ids": expected["token_ids"]}
    assert model.config.reversible

    def loss():
        return sum(ops.sum(each * np.cos(np.arange(np.prod(each.shape), dtype="float32")).reshape(each.shape))
                   for each in outputs(model, inputs, training=True).values())

    table = layout_of(model).table(model)
    rows = {entry.stored: entry for entry in table.entries()}
    paths = {id(variable): path for path, variable in variables_by_path(model).items()}
    found = {paths[id(variable)]: gradient for variable, gradient in
             zip(model.trainable_variables, gradients(model, loss), strict=True)}
    names = [name.removeprefix("gradient:") for name in expected if name.startswith("gradient:")]
    assert len(names) >= 4
    for name in names:
        wanted = rows[name].from_stored(expected[f"gradient:{name}"])
        np.testing.assert_allclose(found[rows[name].variables[0]], wanted, rtol=1e-4,
                                   atol=1e-5 * np.abs(wanted).max(), err_msg=name)


# Files.

def test_folders_survive_a_round_trip(reference, tmp_path):
    model, _ = reference
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    again = kzoo.load(tmp_path / "hf")
    assert (again.config, again.task, again.newly_initialized) == (model.config, model.task, ())
    for ours, theirs in zip(model.trainable_weights, again.trainable_weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))
    theirs, ours = (json.loads((folder / "config.json").read_text())
                    for folder in (FIXTURES / model.task, tmp_path / "hf"))
    unknown = {"transformers_version", "use_cache", "num_hidden_layers", "chunk_size_lm_head", "id2label", "label2id",
               "eos_token_id", "pad_token_id"}
    if not theirs["axial_pos_embds"]:
        unknown |= {"axial_pos_shape", "axial_pos_embds_dim"}
    assert {name: ours.get(name, 0) for name in theirs if name not in unknown} == {
        name: value for name, value in theirs.items() if name not in unknown}


@pytest.mark.parametrize("changes, words", [
    ({"attn_layers": "lsh"}, "`attn_layers` in config.json must be a list"),
    ({"attn_layers": ["lsh", "full"]}, "Unknown kind of attention 'full'"),
    ({"hidden_act": "mish"}, "`hidden_act` in config.json is 'mish'"),
    ({"axial_pos_shape": [4, 6]}, "asks for 6 as `axial_shape`, and no stored tensor has an axis of that length"),
    ({"axial_pos_shape": [4, 8]}, "'reformer.embeddings.position_embeddings.weights.0' has the shape .3, 1, 5."),
])
def test_folders_that_do_not_fit_are_refused(tmp_path, changes, words):
    source = FIXTURES / "text-generation"
    (tmp_path / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({**json.loads((source / "config.json").read_text()), **changes}))
    with pytest.raises(ValueError, match=words):
        kzoo.load(tmp_path)


def test_what_their_class_has_no_room_for_is_refused(tmp_path):
    model = kzoo.create("reformer-nano", **TINY, count_once=True)
    with pytest.raises(ValueError, match="has no room for `count_once`=True; keep it in the kzoo format"):
        kzoo.save(model, tmp_path / "hf", format="hugging_face")

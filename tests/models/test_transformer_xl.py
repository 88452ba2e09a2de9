"""Transformer-XL: its config, its sizes, its recurrence, and equality with the reference implementation.

The folders in fixtures/transformer_xl were made by fixtures/make_transformer_xl.py: transformers.TransfoXLLMHeadModel
with every parameter drawn anew from N(0, 0.3), computed in float64, over three segments.
"""
import json
import pathlib

import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.backend import compile_function
from kzoo.models.transformer_xl import PRESETS, TransformerXLBackbone, TransformerXLConfig, backbone_rows
from kzoo.weight_table import expand

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "transformer_xl"
TINY = dict(vocabulary_size=29, num_layers=2, num_heads=3, head_dim=5, hidden_dim=14, intermediate_dim=19,
            embedding_dim=None, memory_length=7, max_sequence_length=4, same_length="no", clamp_length=None,
            initial_memory="zeros", cutoffs=(), width_divisor=1)
B, T = 2, 4
# Compiling makes a case dear on JAX; there the contract in test_every_model.py and the reference's numbers do.
ON_JAX = keras.backend.backend() == "jax"
not_on_jax = pytest.mark.skipif(ON_JAX, reason="compiling it for JAX takes long")


def array(x):
    return ops.convert_to_numpy(x)


# The config.

@pytest.mark.parametrize("field, value, words", [
    ("vocabulary_size", 0, "`vocabulary_size` of TransformerXLConfig must be at least 1. Received: 0"),
    ("memory_length", 0, "`memory_length`.*at least 1"),
    ("hidden_dim", 15, "`hidden_dim`.*must be even, for the waves"),
    ("embedding_dim", 0, "`embedding_dim`.*at least 1, or None"),
    ("clamp_length", 0, "`clamp_length`.*at least 1, or None"),
    ("cutoffs", (7, 7), "`cutoffs`.*must ascend between 0 and `vocabulary_size` .29.. Received: .7, 7."),
    ("cutoffs", (29,), "`cutoffs`.*must ascend"),
    ("dropout", 1.0, "`dropout`.*at least 0 and below 1"),
    ("attention_dropout", -0.1, "`attention_dropout`.*at least 0 and below 1"),
    ("layer_norm_epsilon", 0.0, "`layer_norm_epsilon`.*above 0"),
    ("initializer_range", 0.0, "`initializer_range`.*above 0"),
    ("activation", "gelu_new", "Unknown activation 'gelu_new'"),
    ("same_length", "memori", "Unknown same_length 'memori'. Did you mean 'memory'"),
    ("initial_memory", "zero", "Unknown initial_memory 'zero'. Did you mean 'zeros'"),
    ("norm_placement", "pro", "Unknown norm_placement 'pro'"),
])
def test_values_that_do_not_fit_are_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        TransformerXLConfig(**{**TINY, field: value})


def test_clusters_need_a_width():
    with pytest.raises(ValueError, match="`width_divisor`.*must leave the rarest cluster's embeddings a width"):
        TransformerXLConfig(**{**TINY, "cutoffs": (7, 12), "width_divisor": 4})


# Sizes.

def number_of_weights(config):
    """Counted from the architecture, not from our layers; what is tied counts once."""
    width, inner, heads = config.hidden_dim, config.intermediate_dim, config.num_heads * config.head_dim
    embedding = config.embedding_dim or width
    ends = (0, *config.cutoffs, config.vocabulary_size)
    sizes = [end - begin for begin, end in zip(ends, ends[1:], strict=False)]
    if config.width_divisor == 1:
        tables, projections = [(config.vocabulary_size, embedding)], [embedding] * (embedding != width)
    else:
        tables = [(size, embedding // config.width_divisor ** c) for c, size in enumerate(sizes)]
        projections = [each for _, each in tables]
    read_out = len(sizes) if projections else 0
    own = (1 if config.tie_projections else read_out) * bool(read_out)
    widths = projections if config.width_divisor > 1 else projections * len(sizes)
    softmax = config.vocabulary_size + (len(sizes) - 1) * (embedding + 1) + width * sum(widths[:own])
    rows = sum(size * each for size, each in tables)
    biases = 2 * heads * (1 if config.tie_biases else config.num_layers)
    block = 5 * heads * width + 2 * width * inner + inner + width + 4 * width
    return (rows * (1 if config.tie_embeddings else 2) + width * sum(projections) + softmax + biases
            + config.num_layers * block)


@not_on_jax
@pytest.mark.parametrize("changes", [
    {}, {"embedding_dim": 10}, {"tie_biases": True, "cutoffs": (7, 12)},
    {"cutoffs": (7, 12), "embedding_dim": 9}, {"cutoffs": (7, 12), "embedding_dim": 9, "tie_projections": False},
    {"cutoffs": (7, 12), "width_divisor": 2}, {"cutoffs": (7,), "width_divisor": 3, "tie_embeddings": False},
], ids=str)
def test_the_count_is_the_models(changes):
    config = TransformerXLConfig(**{**TINY, **changes})
    model = TransformerXLBackbone(config)
    model.build()
    assert model.count_params() == number_of_weights(config)
    assert number_of_weights(config) != number_of_weights(config.replace(hidden_dim=16))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_state_their_parameters(name):
    assert PRESETS[name].parameters == number_of_weights(PRESETS[name].config)


# Equality with the reference.

NAMES = ("adaptive", "tied_biases", "plain", "untied")


def read_segments(model, token_ids, lengths, memory=None):
    """[(log-probabilities (B, T, V), memory (L, B, M, E))] of segments, each after the memory of the one before."""
    memory, begin, results = memory or model.backbone.empty_cache(len(token_ids)), 0, []

    def step(token_ids, memory):
        logits, memory = model.forward({"token_ids": token_ids}, memory)
        return ops.log_softmax(logits), memory

    step = compile_function(model, step) if ON_JAX else step
    for length in lengths:
        log_probabilities, memory = step(ops.convert_to_tensor(token_ids[:, begin:begin + length]), memory)
        begin += length
        results.append((array(log_probabilities), np.stack([array(layer.hidden_states) for layer in memory])))
    return results


@pytest.fixture(scope="module", params=NAMES[:1] if ON_JAX else NAMES)
def reference(request):
    """(model, what the reference computed with its weights)."""
    with np.load(FIXTURES / request.param / "expected.npz", allow_pickle=False) as file:
        return kzoo.load(FIXTURES / request.param), dict(file)


def assert_equal_segments(model, expected):
    results = read_segments(model, expected["token_ids"], expected["segments"])
    for number, (log_probabilities, memory) in enumerate(results):
        wanted, wanted_memory = expected[f"log_probabilities_{number}"], expected[f"memory_{number}"]
        np.testing.assert_allclose(log_probabilities, wanted, rtol=0, atol=1e-5)
        np.testing.assert_allclose(memory, wanted_memory, rtol=0, atol=1e-5)


def test_three_segments_equal_the_reference(reference):
    model, expected = reference
    assert_equal_segments(model, expected)


@not_on_jax
def test_a_text_begins_with_the_initial_memory(reference):
    model, expected = reference
    first = model({"token_ids": expected["token_ids"][:, :expected["segments"][0]]})
    np.testing.assert_allclose(array(ops.log_softmax(first)), expected["log_probabilities_0"], rtol=0, atol=1e-5)


@not_on_jax
@pytest.mark.parametrize("name, changes", [
    ("adaptive", {"clamp_length": 7}), ("adaptive", {"same_length": "memory_and_itself"}),
    ("adaptive", {"layer_norm_epsilon": 3.3e-3}), ("tied_biases", {"same_length": "memory"}),
    ("plain", {"initial_memory": "empty"}), ("untied", {"norm_placement": "post"}), ("plain", {"memory_length": 11}),
], ids=str)
def test_a_small_difference_would_be_seen(name, changes):
    with np.load(FIXTURES / name / "expected.npz", allow_pickle=False) as file:
        expected = dict(file)
    model = kzoo.load(FIXTURES / name)
    other = kzoo.create("transformer-xl-nano", **{**model.config.to_dict(), **changes})
    other.set_weights(model.get_weights())
    with pytest.raises(AssertionError, match="Mismatch|mismatch"):
        assert_equal_segments(other, expected)


@pytest.mark.parametrize("reference", NAMES[:1] if ON_JAX else NAMES[:2], indirect=True)
def test_gradients_equal_the_reference(reference, gradients):
    """Of a loss on the second segment: none of it goes through the memory."""
    model, expected = reference
    first, second = expected["segments"][:2]
    token_ids = expected["token_ids"][:, first:first + second]

    def loss():
        _, memory = model.forward({"token_ids": expected["token_ids"][:, :first]}, model.backbone.empty_cache(3))
        probabilities = ops.log_softmax(model.forward({"token_ids": token_ids}, memory)[0], axis=-1)
        return -ops.mean(ops.take_along_axis(probabilities, token_ids[:, :, None], axis=2))

    assert float(compile_function(model, loss)()) == pytest.approx(float(expected["loss"]), rel=1e-5)
    found = dict(zip((variable.path.split("/", 2)[2] for variable in model.trainable_variables),
                     gradients(model, loss), strict=True))
    rows = {entry.stored: entry for entry in expand(backbone_rows(model.config), model.config.layer_counts())}
    names = [name.removeprefix("gradient:") for name in expected if name.startswith("gradient:")]
    assert len(names) == 3
    for name in names:
        wanted = rows[name].from_stored(expected[f"gradient:{name}"])
        ours = np.concatenate([found[path] for path in rows[name].variables], axis=-1)
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max(), err_msg=name)


def test_what_is_written_is_what_was_read(reference, tmp_path):
    model, expected = reference
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    again = kzoo.load(tmp_path / "hf")
    assert again.config == model.config
    assert all(np.array_equal(one, other) for one, other in zip(again.get_weights(), model.get_weights(), strict=True))
    written = json.loads((tmp_path / "hf" / "config.json").read_text())
    read = [json.loads((FIXTURES / name / "config.json").read_text()) for name in NAMES]
    source = next(each for each in read if each["vocab_size"] == written["vocab_size"])
    assert {name: written[name] for name in source if name in written and "dtype" not in name} == {
        name: source[name] for name in source if name in written and "dtype" not in name}
    assert set(source) - set(written) == {"init", "init_range", "proj_init_std", "torch_dtype", "transformers_version"}


@pytest.mark.parametrize("changes, words", [
    ({"attn_type": 1}, "`attn_type` in config.json is 1; only 0"),
    ({"tie_projs": [True, True, True]}, "`tie_projs`.*must be false, and then the same for all"),
    ({"tie_projs": [False, True, False]}, "`tie_projs`.*must be false, and then the same for all"),
])
def test_files_of_other_variants_are_refused(changes, words, tmp_path):
    values = json.loads((FIXTURES / "adaptive" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, **changes}))
    (tmp_path / "model.safetensors").write_bytes((FIXTURES / "adaptive" / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=words):
        kzoo.load(tmp_path)


def test_what_hugging_face_has_no_word_for_is_refused(tmp_path):
    for changes, words in (({"same_length": "memory_and_itself"}, "no room for `same_length`='memory_and_itself'"),
                           ({"initial_memory": "empty"}, "no room for `initial_memory`='empty'")):
        model = kzoo.create("transformer-xl-nano", **{**TINY, "num_layers": 1, **changes})
        with pytest.raises(ValueError, match=words):
            kzoo.save(model, tmp_path / "hf", format="hugging_face")
    assert not any(tmp_path.iterdir())


# Recurrence.

def tiny(redraw, **changes):
    return redraw(kzoo.create("transformer-xl-nano", **{**TINY, **changes}), scale=0.5)


def ids(length, seed=0):
    return np.random.default_rng(seed).integers(0, TINY["vocabulary_size"], (B, length)).astype("int32")


def in_segments(model, token_ids, length=T):
    results = read_segments(model, token_ids, [length] * (token_ids.shape[1] // length))
    return np.concatenate([log_probabilities for log_probabilities, _ in results], axis=1)


@not_on_jax
def test_segments_with_a_memory_equal_one_full_pass(redraw):
    """With an empty memory that forgets nothing."""
    token_ids = ids(2 * T)
    model = tiny(redraw, initial_memory="empty", memory_length=2 * T)
    whole = array(ops.log_softmax(model({"token_ids": token_ids})))
    np.testing.assert_allclose(in_segments(model, token_ids), whole, atol=2e-6)
    for changes in ({"memory_length": T - 1}, {"initial_memory": "zeros"}):
        other = tiny(redraw, **{"initial_memory": "empty", "memory_length": 2 * T, **changes})
        assert np.abs(in_segments(other, token_ids) - array(ops.log_softmax(other({"token_ids": token_ids})))).max() > (
            1e-3)


@not_on_jax  # the gradients of the reference show it there
def test_nothing_is_learned_through_the_memory(redraw):
    """The gradient of the second segment's loss by what the first one read is zero, and by what itself read is not."""
    model = tiny(redraw)
    token_ids = ids(2 * T)

    def loss(first, second):
        embed = model.backbone.token_embedding.call
        inputs = iter((first, second))
        model.backbone.token_embedding.call = lambda token_ids: embed(token_ids) + next(inputs)
        _, memory = model.forward({"token_ids": token_ids[:, :T]}, model.backbone.empty_cache(B))
        logits, _ = model.forward({"token_ids": token_ids[:, T:]}, memory)
        model.backbone.token_embedding.call = embed
        return ops.mean(ops.square(logits))

    shifts = [np.zeros((B, T, TINY["hidden_dim"]), "float32")] * 2
    import tensorflow as tf

    shifts = [tf.Variable(each) for each in shifts]
    with tf.GradientTape() as tape:
        value = loss(*shifts)
    first, second = tape.gradient(value, shifts, unconnected_gradients="zero")
    assert not array(first).any()
    assert np.abs(array(second)).min() > 0


@not_on_jax
@pytest.mark.parametrize("same_length, reach", [("no", 2 * (7 + T)), ("memory", 2 * 6), ("memory_and_itself", 2 * 7)])
def test_a_token_is_heard_as_far_as_the_layers_reach(redraw, same_length, reach):
    """Each layer looks at most M + T tokens back, or exactly M - 1 or M before itself."""
    model = tiny(redraw, same_length=same_length)
    token_ids = ids(8 * T)
    before = in_segments(model, token_ids)
    changed = token_ids.copy()
    changed[:, 1] = (changed[:, 1] + 1) % TINY["vocabulary_size"]
    changes = np.abs(in_segments(model, changed) - before).max(axis=(0, 2))  # (8 * T,)
    assert not changes[0] and not changes[2 + reach:].any()  # bit for bit
    if same_length != "no":
        assert changes[1 + reach] > 0


@not_on_jax
def test_a_text_begins_anew_where_its_row_is_forgotten(redraw):
    model = tiny(redraw)
    token_ids = ids(2 * T)
    _, memory = model.forward({"token_ids": token_ids[:, :T]}, model.backbone.empty_cache(B))
    forgotten = tuple(layer.forget(ops.array([True, False])) for layer in memory)
    second = token_ids[:, T:]
    result, went_on, fresh = (array(model.forward({"token_ids": second}, cache)[0])
                              for cache in (forgotten, memory, model.backbone.empty_cache(B)))
    np.testing.assert_array_equal(result[0], fresh[0])
    np.testing.assert_array_equal(result[1], went_on[1])
    assert np.abs(went_on - fresh).max(axis=(1, 2)).min() > 0.01


@not_on_jax
@pytest.mark.parametrize("initial_memory", ["zeros", "empty"])
def test_padding_before_a_text_is_not_heard(redraw, initial_memory):
    """Nor does it move the zeros that a text begins with; also where it fills whole segments."""
    model, noise = tiny(redraw, initial_memory=initial_memory), ids(3 * T, seed=1)
    text, mask = ids(T + 1), np.repeat([[False] * (2 * T - 1) + [True] * (T + 1)], B, axis=0)
    padded = np.where(mask, np.concatenate([noise[:, :2 * T - 1], text], axis=1), noise)
    alone, cache = [], model.backbone.empty_cache(B)
    for piece in (text[:, :1], text[:, 1:]):
        logits, cache = model.forward({"token_ids": piece}, cache)
        alone.append(array(logits))

    def read(mask):
        found, cache = [], model.backbone.empty_cache(B)
        for begin in range(0, 3 * T, T):
            here = slice(begin, begin + T)
            logits, cache = model.forward({"token_ids": padded[:, here], "padding_mask": mask[:, here]}, cache)
            found.append(array(logits))
        return np.concatenate(found, axis=1)[:, 2 * T - 1:]

    np.testing.assert_allclose(read(mask), np.concatenate(alone, axis=1), atol=2e-5)
    assert np.abs(read(np.ones_like(mask)) - np.concatenate(alone, axis=1)).max() > 0.01


@not_on_jax
def test_a_longer_memory_hears_more(redraw):
    """The memory's length is that of the value passed in, so that a model may be evaluated with a longer one."""
    model = tiny(redraw, initial_memory="empty", memory_length=2)
    longer = tiny(redraw, initial_memory="empty", memory_length=3 * T)
    longer.set_weights(model.get_weights())
    token_ids = ids(3 * T)
    whole = array(ops.log_softmax(model({"token_ids": token_ids})))
    np.testing.assert_allclose(in_segments(longer, token_ids), whole, atol=2e-6)
    assert np.abs(in_segments(model, token_ids) - whole).max() > 1e-3
    results = read_segments(model, token_ids, [T] * 3, longer.backbone.empty_cache(B))
    np.testing.assert_allclose(np.concatenate([each for each, _ in results], axis=1), whole, atol=2e-6)


@not_on_jax
def test_dropout_stands_where_the_reference_has_it(monkeypatch):
    """On embeddings, waves, attention weights, inside and after both branches, and on what comes out."""
    seen = []

    def note(layer, inputs, training=False):
        if layer.rate:
            seen.append((layer.rate, bool(training), tuple(inputs.shape)))
        return inputs

    monkeypatch.setattr(kzoo.layers.Dropout, "call", note)
    model = kzoo.create("transformer-xl-nano", **{**TINY, "initial_memory": "empty"}, dropout=0.3,
                        attention_dropout=0.2)
    model({"token_ids": np.zeros((1, T), "int32")}, training=True)
    width, inner = TINY["hidden_dim"], TINY["intermediate_dim"]
    outer = (0.3, True, (1, T, width))
    layer = [outer, (0.2, True, (1, TINY["num_heads"], T, T)), outer, (0.3, True, (1, T, inner)), outer]
    assert seen == [outer] + layer * TINY["num_layers"] + [outer]

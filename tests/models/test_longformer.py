"""Longformer: equality with the reference, with full attention where windows are wide, and its cost.

The folders in fixtures/longformer were made by fixtures/make_longformer.py: transformers' classes, computed in float64.
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
from kzoo.checkpoint import variables_by_path
from kzoo.hugging_face import layout_of
from kzoo.layers import Attention, SlidingWindow, locate
from kzoo.layers.longformer_attention import GlobalPositions, LongformerAttention, find_global_tokens
from kzoo.models.longformer import PRESETS, LongformerBackbone, LongformerConfig
from kzoo.tasks.task import build_task

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "longformer"
TASKS = ("fill-mask", "text-classification", "token-classification", "question-answering", "feature-extraction")
ON_JAX = keras.backend.backend() == "jax"
ENOUGH = slice(1, 2) if ON_JAX else slice(None)  # of the cases, where each is compiled
TINY = dict(vocabulary_size=29, num_layers=2, num_heads=4, hidden_dim=24, intermediate_dim=37, max_sequence_length=19)
B, T, H, D, E = 2, 17, 3, 5, 11
rng = np.random.default_rng(0)
x = rng.normal(size=(B, T, E)).astype("float32")
PADDING = np.arange(T) < np.array([[T], [12]])
CHOSEN = np.isin(np.arange(T), (0, 4, 5)) & np.array([[True], [False]]) | (np.arange(T) == 2)


# The config.

@pytest.mark.parametrize("field, value, words", [
    ("window_size", 0, "`window_size` of LongformerConfig must be at least 1. Received: 0"),
    ("window_size", (3, 4, 5), "`window_size` of LongformerConfig must be a number, or 2 of them, one for each layer"),
    ("max_global_tokens", 0, "`max_global_tokens`.*at least 1"),
    ("sep_id", 29, "`sep_id`.*below 29"),
])
def test_values_that_do_not_fit_are_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        LongformerConfig(**{**TINY, field: value})


def number_of_weights(config, pooler=True):
    """Counted from the architecture, not from our layers."""
    width, inner = config.hidden_dim, config.intermediate_dim
    rows = config.vocabulary_size + config.max_sequence_length + config.position_offset + config.num_segments
    block = 7 * (width + 1) * width + (width + 1) * inner + (inner + 1) * width + 4 * width
    return rows * width + 2 * width + config.num_layers * block + (width + 1) * width * pooler


def test_presets_state_their_parameters():
    """As published: base 149 M, large 435 M."""
    model = LongformerBackbone(LongformerConfig(**TINY))
    model.build()
    assert model.count_params() == number_of_weights(model.config, pooler=False)
    for preset in PRESETS.values():
        assert preset.parameters == number_of_weights(preset.config)


# Attention.

def layer(kind, pattern, seed=1):
    attention = kind(H, D, E, pattern=pattern)
    attention.build((None, None, E))
    draw = np.random.default_rng(seed)
    attention.set_weights([draw.normal(0, 0.4, weight.shape).astype("float32") for weight in attention.weights])
    return attention


def attend(attention, chosen=None, padding=None, count=4):
    def call(x, chosen):
        positions = locate(x, padding)
        if chosen is not None:
            positions = GlobalPositions(*positions, find_global_tokens(chosen, count, "float32"))
        return attention(x, positions)[0]

    call = compile_function(attention, call) if ON_JAX else call
    return ops.convert_to_numpy(call(ops.convert_to_tensor(x), None if chosen is None else
                                     ops.convert_to_tensor(chosen)))


def written_out(attention, chosen, padding, reach):
    """Token by token."""
    def dense(name, x):
        layer = getattr(attention, name)
        return x @ ops.convert_to_numpy(layer.kernel) + ops.convert_to_numpy(layer.bias)

    mixed = np.zeros((B, T, H * D))
    for b, t in np.ndindex(B, T):
        kind = "_global" if chosen[b, t] else ""
        seen = [s for s in range(T) if padding[b, s] and (chosen[b, t] or chosen[b, s] or abs(s - t) <= reach)]
        query, key, value = (dense(f"{name}{kind}", x[b, part]) for name, part in
                             (("query", t), ("key", seen), ("value", seen)))
        for own in (slice(h * D, h * D + D) for h in range(H)):
            weights = np.exp(key[:, own] @ query[own] / D ** 0.5)
            mixed[b, t, own] = weights / weights.sum() @ value[:, own]
    return dense("output_dense", mixed)


@pytest.mark.parametrize("count", [4, D + 1], ids=["few", "as many as a head is wide"])
def test_attention_agrees_with_the_formula_written_out(count):
    """A global key within a window counts once; what is padding is neither seen nor global."""
    attention = layer(LongformerAttention, SlidingWindow(3))
    chosen = CHOSEN & PADDING
    result = attend(attention, chosen, ops.convert_to_tensor(PADDING), count)
    np.testing.assert_allclose(result[PADDING], written_out(attention, chosen, PADDING, 2)[PADDING], atol=2e-5)
    assert np.abs(result - written_out(attention, chosen, PADDING, 3))[PADDING].max() > 0.01


def renamed(attention, suffix):
    """An `Attention` whose projections are those of this name."""
    plain = layer(Attention, SlidingWindow(T))
    for name in ("query", "key", "value"):
        getattr(plain, name).set_weights(getattr(attention, name + suffix).get_weights())
    plain.output_dense.set_weights(attention.output_dense.get_weights())
    return plain


def test_windows_as_wide_as_the_row_are_full_attention():
    attention = layer(LongformerAttention, SlidingWindow(T))
    everything = attend(renamed(attention, ""))
    np.testing.assert_allclose(attend(attention), everything, atol=1e-5)
    np.testing.assert_allclose(attend(attention, np.zeros((B, T), bool)), everything, atol=1e-5)
    assert np.abs(attend(layer(LongformerAttention, SlidingWindow(T - 1))) - everything).max() > 1e-3
    # Global keys are among those that all see anyway, and only global queries change.
    result = attend(attention, CHOSEN)
    np.testing.assert_allclose(result[~CHOSEN], everything[~CHOSEN], atol=1e-5)
    assert np.abs(result - everything)[CHOSEN].min() > 0


def test_all_tokens_global_are_full_attention_with_the_global_projections():
    attention, all_of_them = layer(LongformerAttention, SlidingWindow(2)), np.ones((B, T), bool)
    expected = attend(renamed(attention, "_global"))
    np.testing.assert_allclose(attend(attention, all_of_them, count=T), expected, atol=1e-5)
    assert np.abs(attend(attention, all_of_them, count=T - 1) - expected).max() > 0.01  # the last one is ordinary


def test_without_global_tokens_their_projections_have_no_part():
    attention = layer(LongformerAttention, SlidingWindow(3))
    before = [attend(attention, chosen) for chosen in (None, np.zeros((B, T), bool), CHOSEN)]
    np.testing.assert_allclose(before[0], before[1], atol=1e-6)
    for dense in (attention.query_global, attention.key_global, attention.value_global):
        dense.set_weights([weight + 1 for weight in dense.get_weights()])
    after = [attend(attention, chosen) for chosen in (None, np.zeros((B, T), bool), CHOSEN)]
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[1])
    assert np.abs(after[2] - before[2]).max() > 0.01


# Equality with the reference.

@pytest.fixture(scope="module", params=TASKS[ENOUGH])
def reference(request):
    """(model, what the reference computed with its weights)."""
    with np.load(FIXTURES / request.param / "expected.npz", allow_pickle=False) as file:
        return kzoo.load(FIXTURES / request.param), dict(file)


def outputs(model, inputs):
    """dict of the outputs that the reference has."""
    if model.task == "feature-extraction":  # its class gives the states and the pooler's answer; ours pools
        states = model.backbone.forward(inputs)[0]
        return {"hidden_states": states, "pooler": model.pooler(states[:, 0])}
    result = model(inputs)
    return result if isinstance(result, dict) else {"logits": result}


def reference_inputs(expected, kind):
    chosen, mask = {"global_mask": expected["global_mask"]}, {"padding_mask": expected["padding_mask"]}
    inputs = {"chosen": chosen, "none": {"global_mask": np.zeros_like(chosen["global_mask"])},
              "padded": {**chosen, **mask}, "default": mask}[kind]
    return {"token_ids": expected["token_ids"], **inputs}


def assert_equal_outputs(model, expected, kinds):
    compiled = compile_function(model, lambda inputs: outputs(model, inputs))
    for kind in kinds:
        inputs = reference_inputs(expected, kind)
        real = inputs.get("padding_mask", np.ones_like(expected["padding_mask"]))
        tensors = {name: ops.convert_to_tensor(array) for name, array in inputs.items()}
        for name, result in compiled(tensors).items():
            result, wanted = ops.convert_to_numpy(result), expected[f"{kind}:{name}"]
            if result.shape[:2] == real.shape:
                result, wanted = result[real], wanted[real]
            np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-5 * wanted.std(), err_msg=f"{kind} {name}")


def test_outputs_equal_the_reference(reference):
    """With tokens of the caller's choice, with none, and with those of the task."""
    model, expected = reference
    all_kinds = model.task == "text-classification" and not ON_JAX
    kinds = ("chosen", "none", "padded", "default") if all_kinds else ("padded", "default")
    assert_equal_outputs(model, expected, kinds)


@pytest.mark.parametrize("changes", [
    {"window_size": (3, 7, 5)}, {"window_size": (7, 3, 4)}, {"max_global_tokens": 3}, {"layer_norm_epsilon": 3.3e-3},
    {"position_offset": 3, "max_sequence_length": 38}][ENOUGH], ids=str)
def test_a_small_difference_would_be_seen(changes):
    model = kzoo.load(FIXTURES / "token-classification")
    other = build_task(model.family, model.config.replace(**changes), model.task, labels=model.labels)
    other.set_weights(model.get_weights())
    with np.load(FIXTURES / "token-classification" / "expected.npz", allow_pickle=False) as file:
        with pytest.raises(AssertionError, match="Mismatched elements"):
            assert_equal_outputs(other, dict(file), ["chosen"])


def test_gradients_equal_the_reference(gradients):
    model = kzoo.load(FIXTURES / "token-classification")
    with np.load(FIXTURES / "token-classification" / "expected.npz", allow_pickle=False) as file:
        expected = dict(file)
    # Of one row: the reference's are no numbers where rows have different numbers of global tokens.
    inputs = {name: ops.convert_to_tensor(expected[name][:1]) for name in ("token_ids", "global_mask")}

    def loss():
        logits = model(inputs)
        weights = np.cos(np.arange(np.prod(logits.shape), dtype="float32")).reshape(logits.shape)
        return ops.sum(logits * weights)

    entries = {entry.stored: entry for entry in layout_of(model).table(model).entries()}
    paths = {id(variable): path for path, variable in variables_by_path(model).items()}
    found = {paths[id(variable)]: gradient for variable, gradient in
             zip(model.trainable_variables, gradients(model, loss), strict=True)}
    names = [name.removeprefix("gradient:") for name in expected if name.startswith("gradient:")]
    assert len(names) == 5
    for name in names:
        entry = entries[name]
        wanted = entry.from_stored(expected[f"gradient:{name}"])
        np.testing.assert_allclose(found[entry.variables[0]], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max(),
                                   err_msg=name)


# Their folders.

def test_folders_go_in_and_out(reference, tmp_path):
    """What was read is written again: the same tensors, the same fields where they have a meaning here."""
    model, folder = reference[0], FIXTURES / reference[0].task
    assert model.config.window_size == (3, 7, 4) and model.newly_initialized == ()
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    ours, theirs = ({name.removeprefix("longformer."): array for name, array in
                     safetensors.numpy.load_file(path / "model.safetensors").items()} for path in
                    (tmp_path / "hf", folder))
    assert sorted(ours) == sorted(theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)
    written, read = (json.loads((path / "config.json").read_text()) for path in (tmp_path / "hf", folder))
    for name in ("attention_window", "sep_token_id", "pad_token_id", "max_position_embeddings", "architectures"):
        assert written[name] == read[name], name
    assert kzoo.load(tmp_path / "hf").config == model.config


@pytest.mark.parametrize("window", [[4, 12, 5], [4, 12, 0], "512", 1])
def test_windows_that_are_none_are_refused(window, tmp_path):
    for path in (FIXTURES / "fill-mask").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "attention_window": window}))
    with pytest.raises(ValueError, match="`attention_window` in config.json must be even and at least 2"):
        kzoo.load(tmp_path)


def test_a_window_without_neighbours_has_no_name_there(tmp_path):
    model = kzoo.create("longformer-tiny", **TINY, window_size=(3, 1))
    with pytest.raises(ValueError, match="`window_size` 2. Received: .3, 1.; keep it in the kzoo format"):
        kzoo.save(model, tmp_path / "hf", format="hugging_face")


@pytest.mark.skipif(ON_JAX, reason="does not depend on the backend")
def test_dropout_stands_where_the_reference_has_it(monkeypatch):
    """On the weights of the window and of global tokens alike; elsewhere as in BERT."""
    seen = []

    def note(layer, inputs, training=False):
        if layer.rate:
            seen.append((layer.rate, bool(training), len(inputs.shape)))
        return inputs

    monkeypatch.setattr(kzoo.layers.Dropout, "call", note)
    model = kzoo.create("longformer-tiny", task="text-classification", labels=("a", "b"), dropout=0.3,
                        attention_dropout=0.2, **{**TINY, "num_layers": 1})
    model({"token_ids": np.full((1, 5), 3, "int32")}, training=True)
    assert seen == [(0.3, True, 3), (0.2, True, 4), (0.2, True, 4), (0.3, True, 3), (0.3, True, 3), (0.3, True, 2)]

"""The contract of every family and of the variants of its config.

A family takes part by a row in `VARIANTS`; what each task must do follows from the registry.
"""
import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.backend import compile_function
from kzoo.models import Backbone
from kzoo.registry import families
from kzoo.tasks.task import build_task

B, T = 3, 11
LENGTHS = (8, 11, 5)  # of the rows, where they are padded
SIZES = dict(vocabulary_size=29, num_layers=2, num_heads=4, hidden_dim=24, intermediate_dim=37, max_sequence_length=19)
VARIANTS = {  # family -> name -> fields that differ from SIZES; each field is varied somewhere
    "gpt2": {
        "learned": {},
        "sinusoidal": {"position": "sinusoidal", "num_key_value_heads": 2, "activation": "relu",
                       "scale_scores_by_layer": True, "layer_norm_epsilon": 0.03},
        "rotary": {"position": "rotary", "num_key_value_heads": 1, "activation": "silu", "use_bias": False,
                   "scale_scores": False},
        "alibi": {"position": "alibi", "num_key_value_heads": 4, "activation": "gelu", "intermediate_dim": None},
    },
}
CASES = [(family, variant) for family, variants in VARIANTS.items() for variant in variants]
TOLERANCE = {"float32": 2e-5, "mixed_float16": 0.01, "mixed_bfloat16": 0.1}  # of logits whose spread is about 1


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request):
    return request.param


def fresh(case, dtype=None, **changes):
    name, variant = case
    family = families()[name]
    fields = {**SIZES, "dropout": 0.0, **VARIANTS[name][variant], **changes}
    return build_task(family, family.config(**fields), dtype=dtype)


@pytest.fixture(scope="module")
def model(case, redraw):
    return redraw(fresh(case), seed=CASES.index(case))


def logits(model, token_ids, padding_mask=None, **options):
    inputs = {"token_ids": token_ids}
    if padding_mask is not None:
        inputs["padding_mask"] = padding_mask
    return ops.convert_to_numpy(model(inputs, **options))


def compiled_logits(model, jit=None):
    return compile_function(model, lambda ids, mask: model({"token_ids": ids, "padding_mask": mask}), jit)


rng = np.random.default_rng(0)
TOKENS = rng.integers(0, SIZES["vocabulary_size"], (B, T)).astype("int32")


def padded(side):
    """(token_ids, padding_mask, rows): `TOKENS` cut to `LENGTHS` and filled up with noise on one side."""
    token_ids = rng.integers(0, SIZES["vocabulary_size"], (B, T)).astype("int32")
    padding_mask, rows = np.zeros((B, T), bool), []
    for row, length in enumerate(LENGTHS):
        real = slice(T - length, T) if side == "left" else slice(0, length)
        token_ids[row, real] = TOKENS[row, :length]
        padding_mask[row, real] = True
        rows.append(real)
    return token_ids, padding_mask, rows


def test_every_family_takes_part():
    assert set(VARIANTS) == set(families())
    for name, family in families().items():
        assert issubclass(family.backbone, Backbone) and family.backbone.config_class is family.config
        varied = {field for fields in VARIANTS[name].values() for field in fields} | set(SIZES)
        assert varied | {"dropout", "initializer_range"} >= set(family.config.field_names()), "a field is never varied"


def test_output(model):
    result = model({"token_ids": TOKENS})
    assert tuple(result.shape) == (B, T, SIZES["vocabulary_size"])
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    assert model.compute_output_shape({"token_ids": (B, T)}) == (B, T, SIZES["vocabulary_size"])
    assert 0.1 < ops.convert_to_numpy(result).std() < 10  # the scale that the tolerances mean


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_alone_is_the_row_in_a_padded_batch(model, side):
    token_ids, padding_mask, rows = padded(side)
    batch = logits(model, token_ids, padding_mask)
    assert np.isfinite(batch).all()
    for row, length in enumerate(LENGTHS):
        alone = logits(model, TOKENS[row:row + 1, :length])[0]
        np.testing.assert_allclose(batch[row, rows[row]], alone, atol=TOLERANCE["float32"])
    if side == "left":  # right padding would hide behind the causal mask
        without = logits(model, token_ids)
        assert np.abs(without[0, rows[0]] - batch[0, rows[0]]).max() > 0.001


def test_the_future_leaves_no_trace(model):
    before = logits(model, TOKENS)
    changed = TOKENS.copy()
    changed[:, 7] = (changed[:, 7] + 1) % SIZES["vocabulary_size"]
    after = logits(model, changed)
    np.testing.assert_array_equal(after[:, :7], before[:, :7])  # bit for bit
    assert (np.abs(after[:, 7:] - before[:, 7:]).max(axis=(0, 2)) > 1e-5).all()  # and all that follows hears of it


def in_pieces(model, cache, token_ids, padding_mask, lengths, shift=0):
    """Logits (B, T, V) computed through a cache, a few tokens at a time."""
    start, results, slots = 0, [], cache[0].keys.shape[1]
    for length in lengths:
        inputs = {"token_ids": token_ids[:, start:start + length]}
        start += length
        if padding_mask is not None:
            inputs["padding_mask"] = padding_mask[:, :start] if slots == 0 else np.pad(
                padding_mask, ((0, 0), (0, slots - T)), constant_values=True)
        result, cache = model.forward(inputs, cache)
        if shift:
            cache = tuple(layer._replace(index=layer.index + shift) for layer in cache)
        results.append(ops.convert_to_numpy(result))
    return np.concatenate(results, axis=1)


@pytest.mark.parametrize("padding", ["none", "left"])
@pytest.mark.parametrize("capacity", [None, T, 17], ids=["growing", "static-just-enough", "static"])
def test_cached_equals_uncached(model, capacity, padding):
    token_ids, padding_mask, _ = padded("left") if padding == "left" else (TOKENS, None, None)
    real = slice(None) if padding_mask is None else padding_mask
    expected = logits(model, token_ids, padding_mask)
    pieces = (4, 1, 6)
    result = in_pieces(model, model.backbone.empty_cache(B, capacity), token_ids, padding_mask, pieces)
    np.testing.assert_allclose(result[real], expected[real], atol=TOLERANCE["float32"])
    if capacity == 17:
        shifted = in_pieces(model, model.backbone.empty_cache(B, capacity), token_ids, padding_mask, pieces, shift=1)
        assert np.abs(shifted[real] - expected[real]).max() > 0.001


def test_compiled_equals_eager(model):
    token_ids, padding_mask, _ = padded("left")
    inputs = ops.convert_to_tensor(token_ids), ops.convert_to_tensor(padding_mask)
    result = ops.convert_to_numpy(compiled_logits(model, jit=True)(*inputs))
    np.testing.assert_allclose(result, logits(model, token_ids, padding_mask), atol=TOLERANCE["float32"])


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_stays_finite(case, model, dtype):
    half = fresh(case, dtype)
    half.set_weights(model.get_weights())
    assert all(keras.backend.standardize_dtype(weight.dtype) == "float32" for weight in half.weights)
    token_ids, padding_mask, _ = padded("left")
    padding_mask[1] = False  # a row without a single real token
    inputs = ops.convert_to_tensor(token_ids), ops.convert_to_tensor(padding_mask)
    result = compiled_logits(half)(*inputs)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    assert half.backbone.compute_dtype == dtype.removeprefix("mixed_")
    result, expected = ops.convert_to_numpy(result), logits(model, token_ids, padding_mask)
    assert np.isfinite(result).all() and np.isfinite(expected).all()
    np.testing.assert_allclose(result[padding_mask], expected[padding_mask], atol=TOLERANCE[dtype])
    assert np.abs(result - expected).max() > 1e-5  # it really was computed in half precision


def test_config_round_trip(case, model):
    config = model.get_config()
    for _ in range(2):  # the dict is not used up
        again = type(model).from_config(config)
        assert again.config == model.config and type(again.backbone) is type(model.backbone)
    again.build()
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(logits(again, TOKENS), logits(model, TOKENS))
    again = type(model.backbone).from_config(model.backbone.get_config())
    assert again.config == model.config
    assert type(model.config).from_dict(model.config.to_dict()) == model.config


def test_keras_file_round_trip(model, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.config == model.config
    np.testing.assert_array_equal(logits(again, TOKENS), logits(model, TOKENS))
    kzoo.save(again, tmp_path / "run")  # its variables have other paths than those of a model made by `create`
    np.testing.assert_array_equal(logits(kzoo.load(tmp_path / "run"), TOKENS), logits(model, TOKENS))


def test_folder_round_trip(model, tmp_path):
    kzoo.save(model, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "model.safetensors"]
    again = kzoo.load(tmp_path / "run")
    assert (again.config, again.task, type(again)) == (model.config, model.task, type(model))
    np.testing.assert_array_equal(logits(again, TOKENS), logits(model, TOKENS))
    weight = model.weights[-1]
    before = ops.convert_to_numpy(weight)
    weight.assign(before + 0.01)
    assert not np.array_equal(logits(again, TOKENS), logits(model, TOKENS))
    weight.assign(before)


def test_fit_learns_a_pattern(case):
    """a, b, a, b, ...: the token two steps back tells the next one, the last token alone does not."""
    keras.utils.set_random_seed(0)
    model = fresh(case, initializer_range=0.1)
    token_ids = np.tile(rng.integers(0, 7, (16, 2)), (1, 4)).astype("int32")  # (16, 8)
    model.compile(optimizer=keras.optimizers.Adam(0.01), jit_compile=keras.backend.backend() == "jax",
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit({"token_ids": token_ids[:, :-1]}, token_ids[:, 1:], batch_size=16, epochs=25, verbose=0)
    losses = history.history["loss"]
    assert losses[0] > 2.5 and losses[-1] < 0.6 * losses[0]
    right = logits(model, token_ids[:, :-1]).argmax(axis=-1) == token_ids[:, 1:]
    assert right[:, 1:].mean() > right[:, 0].mean()  # the first token of a row can only be guessed from


def test_gradients_agree_with_finite_differences(model, gradients):
    token_ids, padding_mask, _ = padded("left")
    weights = padding_mask[:, 1:] & padding_mask[:, :-1]

    def loss():
        result = model({"token_ids": token_ids, "padding_mask": padding_mask})[:, :-1]
        log_probabilities = ops.log_softmax(result, axis=-1)
        chosen = ops.take_along_axis(log_probabilities, token_ids[:, 1:, None].astype("int32"), axis=2)[..., 0]
        return -ops.sum(ops.where(weights, chosen, 0.0)) / weights.sum()

    value, found = compile_function(model, loss), gradients(model, loss)
    assert all(np.isfinite(gradient).all() for gradient in found)
    # A weight's own gradient is the direction in which the loss changes most, which stands out from float32's rounding:
    # about 1e-6 / STEP. The difference is central, so what the step leaves is of second order.
    step = 1e-2
    for place in np.random.default_rng(1).choice(len(found), 5, replace=False):
        variable, gradient = model.trainable_variables[place], found[place].astype("float64")
        length = np.linalg.norm(gradient)
        assert length > 0, variable.path
        before = ops.convert_to_numpy(variable)
        values = []
        for sign in (1, -1):
            variable.assign(before + sign * step * gradient / length)
            values.append(float(value()))
        variable.assign(before)
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(length, rel=0.02, abs=3e-4), variable.path


def test_dropout_is_for_training_only(case):
    model = fresh(case, dropout=0.5, initializer_range=0.3)
    np.testing.assert_array_equal(logits(model, TOKENS), logits(model, TOKENS))
    np.testing.assert_array_equal(logits(model, TOKENS, training=False), logits(model, TOKENS))
    without = fresh(case, initializer_range=0.3)
    without.set_weights(model.get_weights())
    np.testing.assert_array_equal(logits(without, TOKENS, training=True), logits(without, TOKENS))
    np.testing.assert_array_equal(logits(without, TOKENS), logits(model, TOKENS))
    first, second = (logits(model, TOKENS, training=True) for _ in range(2))
    assert np.abs(first - logits(model, TOKENS)).max() > 0.01 and np.abs(first - second).max() > 0.01


def test_seeds_give_the_same_weights(case):
    drawn = []
    for seed in (3, 3, 4):
        keras.utils.set_random_seed(seed)
        drawn.append(fresh(case).get_weights())
    first, second, other = drawn
    assert all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))
    assert any(not np.array_equal(one, two) for one, two in zip(first, other, strict=True))
    kernels = [weight for weight in first if weight.ndim == 2]
    assert len({weight.tobytes() for weight in kernels}) == len(kernels), "two weights were drawn alike"

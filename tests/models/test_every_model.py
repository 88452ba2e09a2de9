"""The contract of every family, of the variants of its config and of its tasks.

Both take part by their rows in cases.py; what each must do follows from the registry.
"""
import functools

import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.backend import compile_function
from kzoo.models import Backbone
from kzoo.models.encoder_decoder import EncoderDecoder
from kzoo.registry import families, get_task_class
from tests.models.cases import (
    CASES,
    DECODING,
    GENERATING,
    IDS,
    LESSONS,
    NORM_SCALES,
    OUTPUTS,
    POOLED,
    SIZES,
    TRIED_ELSEWHERE,
    VARIANTS,
    B,
    T,
    alone,
    fresh,
    output_ids,
    padded,
    real_outputs,
    streams,
    whole,
)

TOLERANCE = {"float32": 2e-5, "mixed_float16": 0.01, "mixed_bfloat16": 0.1}  # of logits whose spread is about 1


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request):
    return request.param


@functools.cache
def redrawn(case, redraw):
    return redraw(fresh(case), seed=CASES.index(case), scale=NORM_SCALES.get(case[0], 0.0))


@pytest.fixture(scope="module")
def model(case, redraw):
    return redrawn(case, redraw)


@pytest.fixture(scope="module", params=DECODING, ids="-".join)
def decoder(request, redraw):
    """A model that generates."""
    return redrawn(request.param, redraw)


def numpy_outputs(result):
    """Every tensor of a result, of one or of several outputs."""
    return [ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(result)]


def outputs(model, inputs):
    return numpy_outputs(forward(model)(tensors(inputs)))


def eager_outputs(model, inputs, **options):
    return numpy_outputs(model(inputs, **options))


@functools.cache
def forward(model):
    """The model; on JAX as one compiled function, where each operation would else be compiled for itself."""
    return compile_function(model, model) if keras.backend.backend() == "jax" else model


@functools.cache
def cached_forward(model):
    if keras.backend.backend() == "jax":
        return compile_function(model, lambda inputs, cache: model.forward(inputs, cache))
    return model.forward


def tensors(inputs):
    return {name: ops.convert_to_tensor(value) for name, value in inputs.items()}


def assert_close(results, expected, atol, index=...):
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(result[index], wanted[index], rtol=0, atol=atol)


def assert_same(results, expected):
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


def difference(results, others):
    return max(np.abs(one - other).max() for one, other in zip(results, others, strict=True))


def test_every_family_takes_part():
    assert set(VARIANTS) == set(families())
    for name, family in families().items():
        assert issubclass(family.backbone, Backbone) and family.backbone.config_class is family.config
        varied = {field for _, fields in VARIANTS[name].values() for field in fields} | set(SIZES)
        random = {field for field in family.config.field_names() if field.endswith("dropout")} | {"initializer_range"}
        assert varied | random >= set(family.config.field_names()), "a field is never varied"
        tried = {task for task, _ in VARIANTS[name].values()} | set(TRIED_ELSEWHERE.get(name, ()))
        tried, tasks = ({get_task_class(task) for task in tasks} for tasks in (tried, family.tasks))
        assert tried == tasks, "a task is never tried"


def test_output(model):
    inputs = whole(model)
    result = model(inputs)
    shapes = model.compute_output_shape({name: value.shape for name, value in inputs.items()})
    shapes = list(shapes.values()) if isinstance(shapes, dict) else [shapes]
    assert [tuple(tensor.shape) for tensor in keras.tree.flatten(result)] == shapes == OUTPUTS[model.task]
    for tensor in keras.tree.flatten(result):
        assert keras.backend.standardize_dtype(tensor.dtype) == "float32"
        assert 0.1 < ops.convert_to_numpy(tensor).std() < 10  # the scale that the tolerances mean


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_row_alone_is_the_row_in_a_padded_batch(model, side):
    inputs, rows = padded(model, side)
    batch = outputs(model, inputs)
    assert all(np.isfinite(each).all() for each in batch)
    for row in range(B):
        cut = [each[row] if model.task in POOLED else each[row, rows[row]] for each in batch]
        assert_close(cut, [each[0] for each in outputs(model, alone(model, row))], TOLERANCE["float32"])
    if side == "left":  # right padding would hide behind a causal mask
        without = outputs(model, {name: value for name, value in inputs.items() if not name.endswith("mask")})
        index = 0 if model.task in POOLED else (0, rows[0])
        assert difference([each[index] for each in without], [each[index] for each in batch]) > 0.001


def test_who_hears_of_a_token(model):
    """The future leaves no trace where text is generated; elsewhere every token hears of every other."""
    before, name = outputs(model, whole(model)), output_ids(model)
    changed = IDS[name].copy()
    changed[:, 7] = (changed[:, 7] + 1) % SIZES["vocabulary_size"]
    after = outputs(model, whole(model, **{name: changed}))
    if model.task in GENERATING:
        assert_same([each[:, :7] for each in after], [each[:, :7] for each in before])  # bit for bit
        before, after = [each[:, 7:] for each in before], [each[:, 7:] for each in after]
    for one, other in zip(before, after, strict=True):
        changes = np.abs(one - other)
        changes = changes if model.task in POOLED else changes.reshape(B, one.shape[1], -1).max(axis=(0, 2))
        assert (changes.max(axis=0) > 1e-5).all()


def in_pieces(model, capacity, inputs, lengths, shift=0):
    """Logits (B, T, V) computed through a cache, a few tokens at a time."""
    stream = list(streams(model))[-1]
    token_ids, padding_mask = inputs[f"{stream}token_ids"], inputs.get(f"{stream}padding_mask")
    if isinstance(model.backbone, EncoderDecoder):
        cache = model.backbone.start_cache(inputs, capacity)
        slots = cache[0].own.keys.shape[1]
        given = {name: value for name, value in inputs.items() if name == "encoder_padding_mask"}
    else:
        cache, given = model.backbone.empty_cache(B, capacity), {}
        slots = None if model.backbone.recurrent else cache[0].keys.shape[1]
    start, results = 0, []
    for length in lengths:
        piece = {**given, f"{stream}token_ids": token_ids[:, start:start + length]}
        start += length
        if padding_mask is not None and model.backbone.recurrent:
            piece["padding_mask"] = padding_mask[:, start - length:start]
        elif padding_mask is not None:
            piece[f"{stream}padding_mask"] = padding_mask[:, :start] if slots == 0 else np.pad(
                padding_mask, ((0, 0), (0, slots - T)), constant_values=True)
        result, cache = cached_forward(model)(tensors(piece), cache)
        if shift:
            cache = tuple(_shifted(layer, shift) for layer in cache)
        results.append(ops.convert_to_numpy(result))
    return np.concatenate(results, axis=1)


def _shifted(layer, shift):
    if hasattr(layer, "own"):
        return layer._replace(own=_shifted(layer.own, shift))
    if hasattr(layer, "hidden_states"):
        return layer._replace(hidden_states=ops.roll(layer.hidden_states, shift, axis=1))
    return layer._replace(index=layer.index + shift)


@pytest.mark.parametrize("capacity, padding", [(None, "none"), (None, "left"), (T, "none"), (17, "left")],
                         ids=["growing", "growing-padded", "static-just-enough", "static-padded"])
def test_cached_equals_uncached(decoder, capacity, padding):
    inputs = padded(decoder, "left")[0] if padding == "left" else whole(decoder)
    real = slice(None) if padding == "none" else real_outputs(decoder, inputs)
    expected = outputs(decoder, inputs)[0]
    pieces = (4, 1, 6)
    result = in_pieces(decoder, capacity, inputs, pieces)
    np.testing.assert_allclose(result[real], expected[real], atol=TOLERANCE["float32"])
    if capacity == 17:
        shifted = in_pieces(decoder, capacity, inputs, pieces, shift=1)
        assert np.abs(shifted[real] - expected[real]).max() > 0.001


def test_compiled_equals_eager(model):
    inputs, _ = padded(model, "left")
    result = compile_function(model, lambda inputs: model(inputs), jit=True)(tensors(inputs))
    assert_close(numpy_outputs(result), eager_outputs(model, inputs), TOLERANCE["float32"])


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_stays_finite(case, model, dtype):
    half = fresh(case, dtype)
    half.set_weights(model.get_weights())
    assert all(keras.backend.standardize_dtype(weight.dtype) == "float32" for weight in half.weights)
    inputs, _ = padded(model, "left")
    for name in inputs:
        if name.endswith("padding_mask"):
            inputs[name][1] = False  # a row without a single real token
    results = compile_function(half, lambda inputs: half(inputs))(tensors(inputs))
    assert all(keras.backend.standardize_dtype(each.dtype) == "float32" for each in keras.tree.flatten(results))
    assert half.backbone.compute_dtype == dtype.removeprefix("mixed_")
    results, expected = numpy_outputs(results), outputs(model, inputs)
    assert all(np.isfinite(each).all() for each in results + expected)
    assert_close(results, expected, TOLERANCE[dtype], real_outputs(model, inputs))
    assert difference(results, expected) > 1e-5  # it really was computed in half precision


def test_config_round_trip(case, model):
    config = model.get_config()
    for _ in range(2):  # the dict is not used up
        again = type(model).from_config(config)
        assert (again.config, again.task, again.settings()) == (model.config, model.task, model.settings())
        assert type(again.backbone) is type(model.backbone)
    again.build()
    again.set_weights(model.get_weights())
    assert_same(outputs(again, whole(model)), outputs(model, whole(model)))
    again = type(model.backbone).from_config(model.backbone.get_config())
    assert again.config == model.config
    assert type(model.config).from_dict(model.config.to_dict()) == model.config


def test_keras_file_round_trip(model, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert (again.config, again.task, again.settings()) == (model.config, model.task, model.settings())
    expected = outputs(model, whole(model))
    assert_same(outputs(again, whole(model)), expected)
    kzoo.save(again, tmp_path / "run")  # its variables have other paths than those of a model made by `create`
    assert_same(outputs(kzoo.load(tmp_path / "run"), whole(model)), expected)


def test_folder_round_trip(model, tmp_path):
    kzoo.save(model, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "model.safetensors"]
    again = kzoo.load(tmp_path / "run")
    assert (again.config, again.task, type(again)) == (model.config, model.task, type(model))
    assert again.settings() == model.settings() and again.newly_initialized == ()
    assert_same(outputs(again, whole(model)), outputs(model, whole(model)))
    weight = model.trainable_weights[-1]
    before = ops.convert_to_numpy(weight)
    weight.assign(before + 0.01 * np.arange(1, before.size + 1).reshape(before.shape))
    assert difference(outputs(again, whole(model)), outputs(model, whole(model))) > 0
    weight.assign(before)


def test_fit_learns_a_pattern(case):
    keras.utils.set_random_seed(0)
    model = fresh(case, initializer_range=0.1, num_layers=1, num_decoder_layers=1)
    inputs, targets = LESSONS[model.task](model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if np.asarray(keras.tree.flatten(targets)[0]).dtype.kind == "f":
        loss = keras.losses.MeanSquaredError()
    model.compile(optimizer=keras.optimizers.SGD(0.2), jit_compile=keras.backend.backend() == "jax",
                  loss={name: loss for name in targets} if isinstance(targets, dict) else loss)
    often = keras.tree.map_structure(lambda rows: np.concatenate([rows] * 10), (inputs, targets))  # epochs cost more
    losses = model.fit(*often, batch_size=16, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.6 * losses[0]
    if model.task == "text-generation":
        right = outputs(model, inputs)[0].argmax(axis=-1) == targets
        assert right[:, 1:].mean() > right[:, 0].mean()  # the first token of a row can only be guessed from


def test_gradients_agree_with_finite_differences(model, gradients):
    inputs, _ = padded(model, "left")
    draw = np.random.default_rng(1)
    real = real_outputs(model, inputs)
    weights = [(draw.normal(size=shape) * real.reshape(*real.shape, *(1,) * (len(shape) - real.ndim)) / real.sum())
               .astype("float32") for shape in OUTPUTS[model.task]]

    def loss():
        return sum(ops.sum(each * weight)
                   for each, weight in zip(keras.tree.flatten(model(inputs)), weights, strict=True))

    value, found = compile_function(model, loss), gradients(model, loss)
    assert all(np.isfinite(gradient).all() for gradient in found)
    # A weight's own gradient is the direction in which the loss changes most, which stands out from float32's rounding:
    # about 1e-6 / step. Of two central differences, one with half the step, what is of second order cancels out.
    for place in draw.choice(len(found), 5, replace=False):
        variable, gradient = model.trainable_variables[place], found[place].astype("float64")
        length = np.linalg.norm(gradient)
        assert length > 0, variable.path
        before = ops.convert_to_numpy(variable)

        def slope(step, variable=variable, before=before, direction=gradient / length):
            values = []
            for sign in (1, -1):
                variable.assign(before + sign * step * direction)
                values.append(float(value()))
            variable.assign(before)
            return (values[0] - values[1]) / (2 * step)

        assert (4 * slope(5e-3) - slope(1e-2)) / 3 == pytest.approx(length, rel=0.02, abs=3e-4), variable.path


def test_dropout_is_for_training_only(case):
    model = fresh(case, dropout=0.5, initializer_range=0.3)
    inputs = whole(model)
    expected = eager_outputs(model, inputs)
    assert_same(eager_outputs(model, inputs), expected)
    assert_same(eager_outputs(model, inputs, training=False), expected)
    without = fresh(case, initializer_range=0.3)
    without.set_weights(model.get_weights())
    assert_same(eager_outputs(without, inputs, training=True), eager_outputs(without, inputs))
    assert_same(eager_outputs(without, inputs), expected)
    first, second = (eager_outputs(model, inputs, training=True) for _ in range(2))
    assert difference(first, expected) > 0.01 and difference(first, second) > 0.01


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

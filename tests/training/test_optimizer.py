"""The optimizer: one step against AdamW written out, what decays, accumulation, choices told in words."""
import keras
import numpy as np
import pytest

from kzoo.training import optimizer as module
from kzoo.training.optimizer import choose_jit, make_optimizer, make_schedule
from kzoo.training.options import TrainOptions

OPTIONS = TrainOptions(steps=7, warmup_steps=2, learning_rate=0.1, weight_decay=0.5, clip_norm=0.7).resolve(5, 3)


def setup(options=OPTIONS):
    kernel = keras.Variable(np.linspace(-1, 1, 15).reshape(3, 5), dtype="float32", name="kernel")
    scale = keras.Variable(np.linspace(1, 2, 5), dtype="float32", name="scale")
    return make_optimizer(options, [kernel, scale]), [kernel, scale]


def gradients(scale=1.0):
    return [np.full((3, 5), 0.3 * scale, "float32"), np.full(5, -0.2 * scale, "float32")]


def apply(optimizer, variables, values):
    values = [keras.ops.convert_to_tensor(value) for value in values]
    if keras.backend.backend() == "tensorflow":
        optimizer.apply(values, variables)
    else:
        state = [[variable.value for variable in owner] for owner in (optimizer.variables, variables)]
        after = optimizer.stateless_apply(state[0], values, state[1])
        for variable, value in zip([*variables, *optimizer.variables], [*after[0], *after[1]], strict=True):
            variable.assign(value)
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def adamw(values, gradients, rate, decays, clip):
    """The first step of AdamW."""
    norm = np.sqrt(sum((gradient ** 2).sum() for gradient in gradients))
    result = []
    for value, gradient, decay in zip(values, gradients, decays, strict=True):
        gradient = gradient * min(1, clip / norm)
        mean, square = (1 - 0.9) * gradient, (1 - 0.99) * gradient ** 2
        update = (mean / (1 - 0.9)) / (np.sqrt(square / (1 - 0.99)) + 1e-8)
        result.append(value - rate * decay * value - rate * update)
    return result


def test_the_first_step_is_adamw_with_decay_of_matrices_only():
    optimizer, variables = setup()
    before = [keras.ops.convert_to_numpy(variable) for variable in variables]
    after = apply(optimizer, variables, gradients())
    rate = 0.1 / 3  # the first of two warm-up steps
    expected = adamw(before, gradients(), rate, (0.5, 0.0), 0.7)
    for found, wanted in zip(after, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    wrong = adamw(before, gradients(), rate, (0.5, 0.5), 0.7)
    assert np.abs(after[1] - wrong[1]).max() > 1e-3


def test_epsilon_is_the_options():
    """Where it is not small it shows: rate * mean / (root + epsilon), with a tenth of 3,000 in mean and root."""
    options = OPTIONS.replace(adam_epsilon=1e4, weight_decay=0.0, clip_norm=0.0)
    optimizer, variables = setup(options)
    before = keras.ops.convert_to_numpy(variables[0])
    after, _ = apply(optimizer, variables, gradients(1e4))
    np.testing.assert_allclose(before - after, 0.1 / 3 * 300 / (300 + 1e4), rtol=1e-3)


def test_the_norm_of_all_gradients_together_is_clipped():
    found = []
    for options, scale in ((OPTIONS, 1.0), (OPTIONS, 100.0), (OPTIONS.replace(clip_norm=0.0), 100.0)):
        optimizer, variables = setup(options.replace(beta_1=0.0, beta_2=0.0))
        apply(optimizer, variables, gradients(scale))
        mean = next(variable for variable in optimizer.variables if "momentum" in variable.path)
        found.append(np.linalg.norm(keras.ops.convert_to_numpy(mean)))
    length = np.linalg.norm(gradients()[0])
    together = np.sqrt(sum(np.sum(gradient ** 2) for gradient in gradients()))
    np.testing.assert_allclose(found, [length * 0.7 / together, length * 0.7 / together, length * 100], rtol=1e-4)


def test_accumulated_batches_make_the_step_of_their_mean():
    optimizer, variables = setup(OPTIONS.replace(gradient_accumulation=2))
    first = apply(optimizer, variables, gradients(0.5))
    np.testing.assert_array_equal(first[0], np.linspace(-1, 1, 15).reshape(3, 5).astype("float32"))
    found = apply(optimizer, variables, gradients(1.5))
    other, variables = setup()
    expected = apply(other, variables, gradients(1.0))
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    assert int(optimizer.iterations) == 1


def test_float16_scales_the_loss():
    optimizer, variables = setup(OPTIONS.replace(mixed_precision="float16"))
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    before = keras.ops.convert_to_numpy(variables[0])
    for value, left_out in ((np.inf, True), (0.3, False)):
        after, _ = apply(optimizer, variables, [np.full((3, 5), value, "float32"), gradients()[1]])
        assert np.array_equal(after, before) is left_out
    assert not isinstance(setup()[0], keras.optimizers.LossScaleOptimizer)


def test_the_schedule_is_the_options():
    schedule = make_schedule(OPTIONS)
    assert float(schedule(2)) == pytest.approx(0.1)
    assert float(schedule(7)) == pytest.approx(0.01)


def test_the_choice_of_xla_is_said(monkeypatch):
    backend = keras.backend.backend()
    assert choose_jit("on", 1) == (True, f"XLA: on, as asked for ({backend} on the CPU).")
    assert choose_jit("off", 1000)[0] is False
    jit, reason = choose_jit("auto", 1000)
    assert jit and "CPU" in reason
    jit, reason = choose_jit("auto", 10)
    assert jit is (backend == "jax") and "CPU" in reason
    assert choose_jit("auto", 1000, shapes=5)[0] is (backend == "jax")  # each shape is compiled
    jit, reason = choose_jit("on", 1000, deterministic=True)
    assert jit is (backend == "jax") and ("deterministic mode" in reason) is not jit
    monkeypatch.setattr(module, "gpu_available", lambda: True)
    jit, reason = choose_jit("auto", 10)
    assert jit and "GPU" in reason


@pytest.mark.parametrize("change, parameters, expected", [
    ({}, 800_000, 10), ({"batch_size": 13}, 100, 25), ({}, 124_000_000, 1), ({"steps": 2003}, 100, 1),
    ({"steps": 2010, "gradient_accumulation": 2}, 100, 20), ({"steps": 20}, 100, 20)])
def test_how_many_batches_at_a_time_divides_every_epoch(change, parameters, expected):
    options = TrainOptions(**change).resolve(64, 3)
    found = module.steps_per_execution(options, parameters, 64 * options.batch_size)
    assert found == expected
    for epoch in (options.interval, options.steps % options.interval):
        assert epoch * options.gradient_accumulation % found == 0


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="TensorFlow can be told at any time")
def test_determinism_on_a_gpu_must_be_asked_for_before_jax_starts(monkeypatch):
    monkeypatch.setattr(module, "gpu_available", lambda: True)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    with pytest.raises(ValueError, match="XLA_FLAGS"):
        module.require_determinism()

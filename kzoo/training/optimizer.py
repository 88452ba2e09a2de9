"""AdamW as nanoGPT sets it up, and how the training step is computed."""
import math
import os

import keras

from kzoo.backend import gpu_available
from kzoo.training.schedules import WarmupSchedule

# Measured on two cores: compiling costs 6 s (4 layers of 128) to 16 s (GPT-2 small) more than tracing and saves a
# quarter to a third of every step, which pays after 100 to 500 steps.
STEPS_WORTH_COMPILING = 300
LONGEST_EXECUTION = 25           # batches
WORK_OF_EXECUTION = 50 * 10**9   # floating-point operations: a quarter of a second on two cores


def make_optimizer(options, variables):
    """A built AdamW for `variables`.

    Weight decay applies to matrices and embeddings, not to offsets and norms (one dimension). With float16 the loss is
    scaled, because small gradients vanish in it.

    Args:
        options: resolved `TrainOptions`.
        variables: the model's trainable variables.

    Source: Loshchilov and Hutter 2019 (arXiv 1711.05101); the choice of what decays: nanoGPT's `configure_optimizers`.
    """
    accumulate = options.gradient_accumulation
    optimizer = keras.optimizers.AdamW(
        make_schedule(options, accumulate), weight_decay=options.weight_decay, beta_1=options.beta_1,
        beta_2=options.beta_2, epsilon=options.adam_epsilon, global_clipnorm=options.clip_norm or None,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None)
    optimizer.exclude_from_weight_decay([variable for variable in variables if len(variable.shape) < 2])
    if options.mixed_precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def make_schedule(options, batches_per_step=1):
    """The learning rate as a function of the optimizer step, or of the batch where a step has several."""
    return WarmupSchedule(options.schedule, options.learning_rate, options.min_learning_rate, options.warmup_steps,
                          options.steps, batches_per_step, options.initial_learning_rate)


def choose_jit(jit, steps, deterministic=False, shapes=1):
    """(whether to compile the step with XLA, one line that says so and why).

    Args:
        jit: "auto", "on" or "off".
        steps: of the whole run, so that a resumed one computes as it began.
        deterministic: Keras does not compile TensorFlow's steps in its deterministic mode.
        shapes: how many shapes batches have; each is compiled.
    """
    backend = keras.backend.backend()
    device = "GPU" if gpu_available() else "CPU"
    if deterministic and backend == "tensorflow":
        return False, f"XLA: off; TensorFlow's deterministic mode excludes it (on the {device})."
    if jit != "auto":
        return jit == "on", f"XLA: {jit}, as asked for ({backend} on the {device})."
    if backend == "jax":
        return True, f"XLA: on; JAX is slow without it ({device})."
    if device == "CPU" and steps < STEPS_WORTH_COMPILING * shapes:
        return False, f"XLA: off; compiling takes longer than it saves in {steps} steps on the CPU (--jit on does it)."
    return True, f"XLA: on; {backend}'s steps on the {device} are faster with it, after some seconds of compiling."


def steps_per_execution(options, parameters, tokens):
    """How many batches Keras hands to the backend at a time.

    Small models gain a twentieth when the loop over batches runs in the backend. Large ones would keep the progress
    and Ctrl-C waiting. The number divides every epoch of `fit`, because Keras would overshoot the end of one.

    Args:
        options: resolved `TrainOptions`.
        parameters: of the model.
        tokens: in the largest batch.
    """
    work = 6 * parameters * tokens  # floating-point operations of a batch, about
    most = min(LONGEST_EXECUTION, WORK_OF_EXECUTION // work)
    batches = math.gcd(options.interval, options.steps % options.interval) * options.gradient_accumulation
    return max((count for count in range(1, most + 1) if batches % count == 0), default=1)


def require_determinism():
    """Make the backend compute the same bits on every run. TensorFlow keeps the setting until the process ends.

    Raises: ValueError on JAX with a GPU, where the setting must be there before JAX starts.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif gpu_available() and "xla_gpu_deterministic_ops=true" not in os.environ.get("XLA_FLAGS", ""):
        raise ValueError("`deterministic` on a GPU needs XLA_FLAGS=--xla_gpu_deterministic_ops=true in the environment "
                         "before Python starts.")

"""AdamW as nanoGPT sets it up, and how the training step is computed."""
import os

import keras

from kzoo.backend import gpu_available
from kzoo.training.schedules import WarmupSchedule


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
        beta_2=options.beta_2, epsilon=1e-8, global_clipnorm=options.clip_norm or None,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None)
    optimizer.exclude_from_weight_decay([variable for variable in variables if len(variable.shape) < 2])
    if options.mixed_precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def make_schedule(options, batches_per_step=1):
    """The learning rate as a function of the optimizer step, or of the batch where a step has several."""
    return WarmupSchedule(options.schedule, options.learning_rate, options.min_learning_rate, options.warmup_steps,
                          options.steps, batches_per_step)


def choose_jit(jit):
    """(whether to compile the step with XLA, one line that says so and why)."""
    backend = keras.backend.backend()
    device = "GPU" if gpu_available() else "CPU"
    if jit != "auto":
        return jit == "on", f"XLA: {jit}, as asked for ({backend} on the {device})."
    if backend == "jax":
        return True, f"XLA: on, which is how JAX runs fast anywhere ({device})."
    return True, f"XLA: on ({backend} on the {device}: faster steps, after some seconds of compiling)."


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

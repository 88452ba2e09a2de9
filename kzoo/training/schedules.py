"""Learning rates as functions of the step."""
import math

import keras
from keras import ops

from kzoo.errors import unknown
from kzoo.training.options import SCHEDULES


@keras.saving.register_keras_serializable("kzoo")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A linear rise over `warmup_steps`, then one of four ways on. With w = warmup_steps and step s counted from 0:

        s < w          peak * (s + 1) / (w + 1), or initial + (peak - initial) * s / w
        constant       peak
        linear         min + (peak - min) * (1 - d)                    with d = (s - w) / (steps - w), at most 1
        cosine         min + (peak - min) * (1 + cos(pi * d)) / 2
        inverse-sqrt   max(min, peak * sqrt(w / s)), with at least 1 for w and s

    Args:
        kind: "constant", "linear", "cosine" or "inverse-sqrt".
        peak: learning rate after the warm-up.
        minimum: learning rate at the end; "constant" has no use for it.
        warmup_steps: w.
        steps: optimizer steps of the whole run.
        batches_per_step: of gradient accumulation. Keras calls a schedule with the number of batches, not of steps.
        initial: learning rate of step 0, for the second form of the rise; None is the first form.

    Source: cosine: nanoGPT's `get_lr`; inverse-sqrt: Vaswani et al. 2017, equation 3 (arXiv 1706.03762), scaled so
    that the peak is `peak`, as fairseq's `inverse_sqrt`, whose update number is our s.
    """

    def __init__(self, kind, peak, minimum, warmup_steps, steps, batches_per_step=1, initial=None):
        if kind not in SCHEDULES:
            raise ValueError(unknown("schedule", kind, SCHEDULES))
        self.kind = kind
        self.peak = peak
        self.minimum = minimum
        self.warmup_steps = warmup_steps
        self.steps = steps
        self.batches_per_step = batches_per_step
        self.initial = initial

    def __call__(self, batch):
        """Learning rate of the step that batch number `batch`, from 0, is part of; float32."""
        step = ops.cast(batch // self.batches_per_step, "float32")
        warm = self.warmup_steps
        if self.initial is None:
            rising = self.peak * (step + 1) / (warm + 1)
        else:
            rising = self.initial + (self.peak - self.initial) * step / max(1, warm)
        return ops.where(step < warm, rising, self._after_warmup(step))

    def _after_warmup(self, step):
        if self.kind == "constant":
            return ops.full_like(step, self.peak)
        if self.kind == "inverse-sqrt":
            return ops.maximum(self.minimum, self.peak * ops.sqrt(max(1, self.warmup_steps) / ops.maximum(1, step)))
        done = ops.clip((step - self.warmup_steps) / max(1, self.steps - self.warmup_steps), 0.0, 1.0)
        left = 1 - done if self.kind == "linear" else (1 + ops.cos(math.pi * done)) / 2
        return self.minimum + (self.peak - self.minimum) * left

    def get_config(self):
        return {"kind": self.kind, "peak": self.peak, "minimum": self.minimum, "warmup_steps": self.warmup_steps,
                "steps": self.steps, "batches_per_step": self.batches_per_step, "initial": self.initial}

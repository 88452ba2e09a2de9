"""What the contenders of fit_throughput.py and fit_encoders.py share: sizes, data, measuring Keras models."""
import json
import time
from typing import NamedTuple


class Sizes(NamedTuple):
    """Of the model, and of one measurement."""
    layers: int
    heads: int
    width: int
    block: int
    batch: int
    vocabulary: int
    steps: int
    dropout: float = 0.0

    @property
    def tokens(self):
        """Read in one measurement; of pairs, those of the target."""
        return self.steps * self.batch * self.block


def read_sizes(text):
    return Sizes(**json.loads(text))


def windows(sizes):
    """int32 (steps * B, T) ids and their successors, the same for everybody."""
    import numpy as np

    ids = np.random.default_rng(0).integers(0, sizes.vocabulary, (sizes.steps * sizes.batch, sizes.block + 1))
    return ids[:, :-1].astype("int32"), ids[:, 1:].astype("int32")


def text(sizes):
    """As many characters, of one kind fewer: kzoo's character tokenizer adds a token for unknown ones."""
    import numpy as np

    ids = np.random.default_rng(0).integers(0, sizes.vocabulary - 1, sizes.tokens + sizes.block + 1)
    ids[:sizes.vocabulary - 1] = range(sizes.vocabulary - 1)
    return "".join(chr(40 + each) for each in ids)


def keras_measure(model, inputs, targets, sizes, jit):
    """() -> tokens a second of the steps of one epoch of `model.fit`, compiled and warm.

    From the beginning of the first step to the end of the last: in TensorFlow 2.21 `fit` waits another two seconds,
    or not, until its iterator is gone, which a short epoch would be full of.
    """
    import keras

    class Steps(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                self.start = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.end = time.perf_counter()

    model.compile(optimizer=keras.optimizers.AdamW(1e-3),
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=jit)

    def measure():
        steps = Steps()
        model.fit(inputs, targets, batch_size=sizes.batch, verbose=0, callbacks=[steps])
        return {"tokens_per_second": sizes.tokens / (steps.end - steps.start)}

    measure()
    return measure

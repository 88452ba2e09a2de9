"""Training batches as a function of their number, so that the step number is the data position.

An epoch cuts the tokens into windows of T, starting at a random place among the first T tokens, and visits them in
random order. Both come from the seed and the number of the epoch alone: batch k is the same whenever it is asked for.
"""
import keras
import numpy as np

BLOCK = 16  # batches read in one go


class TokenWindows:
    """Windows of T tokens, and the tokens that follow each of them.

    Args:
        tokens: (N,) ids, usually a memory map.
        sequence_length: T; N must be at least T + 1.
        batch_size: B.
        seed: of the order of the windows.
    """

    def __init__(self, tokens, sequence_length, batch_size, seed):
        self.tokens = tokens
        self.sequence_length = sequence_length
        self.batch_size = batch_size
        self.seed = seed
        whole = (len(tokens) - 1) // sequence_length
        if whole < 1:
            raise ValueError(f"A window of {sequence_length} tokens and the one after needs {sequence_length + 1} "
                             f"tokens; there are {len(tokens)}.")
        # One window fewer leaves room to start anywhere among the first T tokens, except in the shortest texts.
        self.windows_per_epoch = max(1, (len(tokens) - sequence_length) // sequence_length)
        self._last_phase = min(sequence_length, len(tokens) - self.windows_per_epoch * sequence_length) - 1
        self._epoch = (None, 0, None)  # number, phase, order: the order of one epoch, kept while it lasts

    def steps_per_epoch(self, batches_per_step=1):
        """Optimizer steps that see every window of an epoch, rounded up."""
        return -(-self.windows_per_epoch // (self.batch_size * batches_per_step))

    def batches(self, first, last):
        """Batches `first` to `last` (not included): int32 (last - first, B, T + 1)."""
        rows = np.arange(first * self.batch_size, last * self.batch_size)
        starts = np.empty(len(rows), "int64")
        for epoch in np.unique(rows // self.windows_per_epoch):
            phase, order = self._order(int(epoch))
            here = rows // self.windows_per_epoch == epoch
            starts[here] = phase + order[rows[here] % self.windows_per_epoch].astype("int64") * self.sequence_length
        columns = np.arange(self.sequence_length + 1)
        windows = self.tokens[starts[:, None] + columns].astype("int32")                # (batches * B, T + 1)
        return windows.reshape(last - first, self.batch_size, self.sequence_length + 1)

    def _order(self, epoch):
        number, phase, order = self._epoch
        if number != epoch:
            random = np.random.default_rng([self.seed, epoch])
            phase = int(random.integers(self._last_phase + 1))
            order = np.arange(self.windows_per_epoch, dtype="uint32")
            random.shuffle(order)
            self._epoch = (epoch, phase, order)  # in one assignment: two readers may be in different epochs
        return phase, order


def make_dataset(windows, first, last):
    """Batches `first` to `last` (not included) for `model.fit`: ({"token_ids": (B, T)}, targets (B, T)), int32.

    The target of each token is the one after it. On the TensorFlow backend a `tf.data.Dataset` that reads ahead, on
    others a generator.
    """
    if keras.backend.backend() == "tensorflow":
        return _tf_dataset(windows, first, last)
    return _generator(windows, first, last)


def _generator(windows, first, last):
    for begin in range(first, last, BLOCK):
        for batch in windows.batches(begin, min(begin + BLOCK, last)):
            yield {"token_ids": batch[:, :-1]}, batch[:, 1:]


def _tf_dataset(windows, first, last):
    import tensorflow as tf

    shape = (windows.batch_size, windows.sequence_length + 1)

    def read(begin):
        return windows.batches(int(begin), min(int(begin) + BLOCK, last))

    def with_shape(begin):
        block = tf.numpy_function(read, [begin], tf.int32, stateful=False)
        return tf.ensure_shape(block, (None, *shape))

    def split(batch):
        return {"token_ids": batch[:, :-1]}, batch[:, 1:]

    # Python is called once a block, not once a batch; the rest runs beside the training step.
    return (tf.data.Dataset.range(first, last, BLOCK).map(with_shape).unbatch()
            .map(split).prefetch(2 * BLOCK))

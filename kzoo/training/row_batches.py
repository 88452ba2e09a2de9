"""Batches of rows for `model.fit`, each with the weights of a mean over its step."""
import keras
import numpy as np

READ_AHEAD = 8  # batches


def step_batches(make_batch, first, last, batches_per_step):
    """Batches `first` to `last` (not included) with weights that make the sum of losses a mean.

    A step's gradient is the mean of those of its batches. The weights of its batches are scaled so that this is the
    mean over all real tokens of the step, however they are spread over the batches.

    Args:
        make_batch: number -> (inputs, targets, weights).
        first, last: multiples of `batches_per_step`.
    """
    for start in range(first, last, batches_per_step):
        batches = [make_batch(number) for number in range(start, start + batches_per_step)]
        total = sum(float(weights.sum(dtype="float64")) for _, _, weights in batches)
        scale = batches_per_step / total if total else 0.0  # by chance, nothing may have been masked
        for inputs, targets, weights in batches:
            yield inputs, targets, (weights * scale).astype("float32")


def make_dataset(batches, sample, one_shape=False):
    """Batches for `fit`: on the TensorFlow backend a `tf.data.Dataset` that reads ahead, on others the generator.

    Args:
        batches: () -> generator of (inputs, targets, weights).
        sample: one of them; the others may have other lengths on every axis.
        one_shape: they have not.
    """
    if keras.backend.backend() != "tensorflow":
        return batches()
    import tensorflow as tf

    def spec(array):
        return tf.TensorSpec(array.shape if one_shape else (None,) * array.ndim, tf.as_dtype(array.dtype))

    specs = keras.tree.map_structure(spec, sample)
    return tf.data.Dataset.from_generator(batches, output_signature=specs).prefetch(READ_AHEAD)


def row_weights(rows, count):
    """float32 (B,): 1 for rows that count and 0 for those that fill up the batch."""
    return (np.arange(len(rows)) < count).astype("float32")

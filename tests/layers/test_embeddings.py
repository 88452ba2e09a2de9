"""The token table, in and out."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import TokenEmbedding

B, T, V, E = 2, 3, 11, 5
rng = np.random.default_rng(4)
table = rng.normal(size=(V, E)).astype("float32")
token_ids = rng.integers(0, V, (B, T)).astype("int32")


def built(**options):
    layer = TokenEmbedding(V, E, **options)
    layer.build(None)
    layer.set_weights([table])
    return layer


def test_looks_up_rows():
    np.testing.assert_array_equal(ops.convert_to_numpy(built()(token_ids)), table[token_ids])


def test_logits_are_products_with_the_same_rows():
    hidden_states = rng.normal(size=(B, T, E)).astype("float32")
    layer = built()
    logits = ops.convert_to_numpy(layer.logits(hidden_states))
    np.testing.assert_allclose(logits, hidden_states @ table.T, atol=1e-5)
    layer.set_weights([table + 1])  # one table: changed for one, changed for the other
    assert np.abs(ops.convert_to_numpy(layer.logits(hidden_states)) - logits).max() > 0.1
    assert len(layer.weights) == 1


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_logits_are_float32_under_mixed_precision(dtype):
    layer = built(dtype=dtype)
    hidden_states = layer(token_ids)
    assert keras.backend.standardize_dtype(hidden_states.dtype) == dtype.removeprefix("mixed_")
    logits = layer.logits(hidden_states)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_allclose(ops.convert_to_numpy(logits), table[token_ids] @ table.T, atol=0.1)


def test_round_trip():
    layer = built(initializer=keras.initializers.RandomNormal(stddev=0.3))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (again.vocabulary_size, again.hidden_dim, again.initializer.stddev) == (V, E, 0.3)
    assert again.compute_output_shape((B, T)) == (B, T, E)

"""What `fit` carries from batch to batch is the memory that the model itself returns."""
import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.training.carried_memory import CarriedMemory

B, T = 2, 3
SIZES = dict(vocabulary_size=13, num_layers=2, num_heads=2, head_dim=3, hidden_dim=6, intermediate_dim=7,
             memory_length=5)


@pytest.fixture(scope="module")
def model():
    model = kzoo.create("transformer-xl-nano", **SIZES)
    random = np.random.default_rng(0)
    model.set_weights([random.normal(0, 0.5, weight.shape) for weight in model.weights])
    return model


def segments(count):
    """(inputs, targets) of each batch; the second row begins anew in the third."""
    ids = np.random.default_rng(1).integers(0, SIZES["vocabulary_size"], (B, count * T + 1)).astype("int32")
    for number in range(count):
        piece = ids[:, number * T:(number + 1) * T + 1]
        begins = np.array([False, number == 2])
        yield {"token_ids": piece[:, :-1], "padding_mask": np.ones((B, T), bool), "begins": begins}, piece[:, 1:]


def test_fit_goes_on_where_the_batch_before_ended(model):
    """With a rate of zero the loss of an epoch is that of the segments read one after the other."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def written_out(begins_count):
        cache, losses = model.backbone.empty_cache(B), []
        for inputs, targets in segments(4):
            if begins_count:
                cache = tuple(layer.forget(ops.array(inputs["begins"])) for layer in cache)
            logits, cache = model.forward({"token_ids": inputs["token_ids"]}, cache)
            losses.append(float(loss(targets, logits)))
        return np.mean(losses), ops.convert_to_numpy(cache[1].hidden_states)

    before = model.get_weights()
    carried = CarriedMemory(model, B)
    carried.compile(keras.optimizers.SGD(0.0), loss, jit_compile=keras.backend.backend() == "jax")
    found = carried.fit(segments(4), steps_per_epoch=4, verbose=0).history["loss"][0]
    expected, memory = written_out(True)
    assert found == pytest.approx(expected, rel=1e-5) and found != pytest.approx(written_out(False)[0], rel=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(carried.memory[1]), memory, atol=1e-5)
    assert len(carried.trainable_variables) == len(model.trainable_variables)
    assert all(np.array_equal(one, other) for one, other in zip(model.get_weights(), before, strict=True))


def test_a_model_without_a_memory_is_refused():
    model = kzoo.create("gpt2-nano", vocabulary_size=13, num_layers=1, num_heads=1, hidden_dim=2)
    with pytest.raises(ValueError, match="`model` must have a memory to carry. Received: a 'gpt2'"):
        CarriedMemory(model, B)

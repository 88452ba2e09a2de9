"""The loss a few tokens at a time, in `fit` and `evaluate`, is the loss of all logits."""
import re

import keras
import numpy as np
import pytest

import kzoo
from kzoo.training.losses import TokenCrossEntropy, weighted_arguments

SIZES = dict(vocabulary_size=29, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=11, max_sequence_length=7,
             dropout=0.0, initializer_range=0.3)
rng = np.random.default_rng(0)
token_ids = rng.integers(0, 29, (6, 7)).astype("int32")
sample_weight = rng.random((6, 7)).astype("float32")
PLAIN = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def model_with(preset, chunk, arguments):
    keras.utils.set_random_seed(0)
    extra = {"attention_dropout": 0.0} if preset == "bert-tiny" else {}
    model = kzoo.create(preset, **SIZES, **extra, loss_chunk_size=chunk)
    model.compile(optimizer=keras.optimizers.SGD(0.5), **arguments)
    return model


CASES = {
    "smoothed": ("gpt2-nano", lambda: {"loss": TokenCrossEntropy(0.2)}),
    "of Keras": ("gpt2-nano", lambda: {"loss": PLAIN}),
    "of Keras, summed": ("gpt2-nano", lambda: {"loss": keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="sum")}),
    "weighted": ("bert-tiny", lambda: weighted_arguments(0.1)),
}


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_all_logits(case, gradients):
    preset, arguments = CASES[case]
    results = []
    for chunk in (None, 5):
        model = model_with(preset, chunk, arguments())
        if case == "weighted":  # with an offset that is not zero
            model.mask_bias.assign(np.linspace(-1, 1, 29))

        def loss(model=model):
            inputs = {"token_ids": token_ids}
            return model.compute_loss(inputs, token_ids, model(inputs), sample_weight)

        results.append((float(loss()), gradients(model, loss)))
    (plain, expected), (chunked, found) = results
    assert chunked == pytest.approx(plain, rel=1e-5)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1, np.abs(other).max()))


def test_fit_learns_the_same():
    """Batches of 4 and of 2 rows: the number of tokens is unknown while the step is traced. Metrics get logits."""
    results = []
    for chunk in (None, 5):
        model = model_with("gpt2-nano", chunk, {"loss": PLAIN, "metrics": ["accuracy"], "jit_compile": False})
        logs = model.fit({"token_ids": token_ids}, token_ids, sample_weight=sample_weight, batch_size=4, epochs=2,
                         verbose=0, shuffle=False).history
        results.append(({name: values[-1] for name, values in logs.items()}, model.get_weights()))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-4)
    for one, other in zip(results[1][1], results[0][1], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_step_has_no_logits_of_all_tokens():
    """As XLA compiles it."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("asks TensorFlow's XLA")
    import tensorflow as tf

    model = kzoo.create("gpt2-nano", **{**SIZES, "vocabulary_size": 5000}, loss_chunk_size=16)
    model.compile(loss=TokenCrossEntropy())

    def step(ids):
        with tf.GradientTape() as tape:
            loss = model.compute_loss({"token_ids": ids}, ids, model({"token_ids": ids}, training=True))
        return tf.convert_to_tensor(tape.gradient(loss, model.backbone.token_embedding.embeddings.value))

    compiled = tf.function(step, jit_compile=True).experimental_get_compiler_ir(tf.zeros((6, 7), tf.int32))
    shapes = set(re.findall(r"f32\[\d+,5000\]", compiled(stage="optimized_hlo")))
    assert "f32[16,5000]" in shapes and "f32[42,5000]" not in shapes


def test_losses_that_cannot_be_chunked_are_refused():
    model = kzoo.create("gpt2-nano", **SIZES, loss_chunk_size=4)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy())  # of probabilities
    with pytest.raises(ValueError, match="`loss_chunk_size` needs a loss that it knows.*Received: <"):
        model.compute_loss({"token_ids": token_ids}, token_ids)
    with pytest.raises(ValueError, match="`loss_chunk_size`.*at least 1, or None"):
        kzoo.create("gpt2-nano", **SIZES, loss_chunk_size=0)

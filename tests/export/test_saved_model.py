"""The SavedModel's signatures, loaded by TensorFlow itself."""
import numpy as np
import pytest
import tensorflow as tf

from kzoo.export.saved_model import SavedModelTarget


@pytest.fixture(scope="module")
def loaded(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    files = SavedModelTarget().write(model, folder)
    assert "saved_model/1/saved_model.pb" in files
    variables = folder / "saved_model/1/variables/variables.data-00000-of-00001"
    assert variables.stat().st_size < 1.05 * 4 * model.count_params() + 4096  # each weight once
    return tf.saved_model.load(str(folder / "saved_model" / "1"))


def test_it_serves_named_inputs_of_any_size(loaded, model):
    assert set(loaded.signatures) == {"serving_default", "prefill", "decode"}
    for shape in ((1, 2), (3, 7)):
        ids = np.random.default_rng(1).integers(0, 311, shape).astype("int32")
        outputs = loaded.signatures["serving_default"](
            token_ids=tf.constant(ids), padding_mask=tf.ones(shape, tf.bool))
        expected = np.asarray(model({"token_ids": ids}))
        np.testing.assert_allclose(outputs["logits"], expected, atol=1e-5 * np.ptp(expected))


def test_its_own_loop_writes_our_ids(loaded, model):
    ids = [5, 3, 2]
    expected = model.generate(ids, max_new_tokens=13, eos_token_id=())
    outputs = loaded.signatures["prefill"](token_ids=tf.constant([ids]), padding_mask=tf.ones((1, 3), tf.bool))
    while True:
        ids.append(int(outputs["logits"][0, -1].numpy().argmax()))
        if len(ids) == len(expected):
            break
        caches = {name: value for name, value in outputs.items() if name.startswith("cache_")}
        outputs = loaded.signatures["decode"](token_ids=tf.constant([ids[-1:]]),
                                              padding_mask=tf.ones((1, len(ids)), tf.bool), **caches)
    assert ids == expected and len(set(ids)) > 4

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

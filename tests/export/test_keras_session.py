"""The live model as a session."""
import numpy as np

from kzoo.export import open_bundle
from kzoo.export.keras_session import KerasGeneration


def test_it_is_the_model(model):
    session = KerasGeneration(model)
    ids = np.array([[5, 3, 2]], "int32")
    expected = model({"token_ids": ids, "padding_mask": np.ones((1, 3), bool)}, training=False)
    np.testing.assert_array_equal(session.run("forward", {"token_ids": ids})["logits"], np.asarray(expected))
    assert session.tokenizer is model.tokenizer and session.sizes["head_dim"] == 5


def test_a_bundle_may_hold_the_model_to_go_on_with(exported, model):
    session = open_bundle(exported[0], "keras")
    for mine, theirs in zip(model.weights, session.model.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))

"""Inputs are refused in plain words; caches fit the config."""
import keras
import numpy as np
import pytest

from kzoo.models import Backbone, GPT2Backbone, GPT2Config
from kzoo.models.base import check_inputs, check_length

CONFIG = GPT2Config(vocabulary_size=11, num_layers=2, num_heads=6, num_key_value_heads=3, hidden_dim=24,
                    max_sequence_length=7)


def test_inputs_are_a_dict():
    with pytest.raises(TypeError, match="Model inputs are a dict with `token_ids`. Received: ndarray"):
        check_inputs(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="lack `token_ids`. Received: padding_mask"):
        check_inputs({"padding_mask": np.ones((2, 3))})
    with pytest.raises(ValueError, match="Received: an empty dict"):
        check_inputs({})


def test_inputs_are_cast():
    """What data pipelines and exported signatures hand in: int64 ids, 0/1 masks, masks that are None."""
    inputs = check_inputs({"token_ids": np.array([[3]], "int64"), "padding_mask": np.array([[1]]), "positions": None})
    assert {name: keras.backend.standardize_dtype(value.dtype) for name, value in inputs.items()} == {
        "token_ids": "int32", "padding_mask": "bool"}


def test_caches_have_the_key_heads_of_the_config():
    backbone = GPT2Backbone(CONFIG, dtype="mixed_bfloat16")
    growing, static = backbone.empty_cache(5), backbone.empty_cache(5, capacity=13)
    assert len(growing) == len(static) == CONFIG.num_layers
    assert tuple(growing[0].keys.shape) == (5, 0, 3, 4) and tuple(static[1].values.shape) == (5, 13, 3, 4)
    assert keras.backend.standardize_dtype(static[0].keys.dtype) == "bfloat16"


def test_a_family_must_say_what_it_computes():
    with pytest.raises(NotImplementedError, match="Backbone must define `forward`"):
        Backbone(CONFIG).forward({})


def test_rows_longer_than_the_model_are_refused_where_the_length_is_known():
    check_length(np.zeros((2, 7)), 7)
    check_length(keras.Input((None,)), 7)
    with pytest.raises(ValueError, match="`token_ids` has 8 tokens a row; `max_sequence_length` is 7"):
        check_length(np.zeros((2, 8)), 7)
    with pytest.raises(ValueError, match="`encoder_token_ids` has 8 tokens a row"):
        check_length(np.zeros((2, 8)), 7, "encoder_token_ids")

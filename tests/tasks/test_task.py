"""What task models share."""
import keras
import numpy as np
import pytest

from kzoo.registry import get_family
from kzoo.tasks.causal_lm import CausalLM
from kzoo.tasks.task import build_task

SIZES = dict(vocabulary_size=11, num_layers=1, num_heads=2, hidden_dim=6, max_sequence_length=7)


@pytest.fixture(scope="module")
def model():
    family = get_family("gpt2")
    return build_task(family, family.config(**SIZES), tokenizer="stand-in")


def test_the_first_task_is_the_default(model):
    assert type(model) is CausalLM and model.task == model.family.tasks[0] == "text-generation"
    assert (model.family, model.config.hidden_dim, model.tokenizer) == (get_family("gpt2"), 6, "stand-in")
    assert model.built and model.backbone.built


def test_a_task_that_does_not_exist_or_fit_is_refused():
    family = get_family("gpt2")
    with pytest.raises(ValueError, match="Unknown task 'text-generaton'. Did you mean 'text-generation'"):
        build_task(family, family.config(**SIZES), "text-generaton")


def test_a_backbone_of_no_family_is_named(model):
    class Mine(type(model.backbone)):
        pass

    with pytest.raises(ValueError, match="Mine is the backbone of no registered family"):
        assert CausalLM(Mine(model.config)).family


def test_the_backbones_precision_is_the_tasks():
    family = get_family("gpt2")
    model = build_task(family, family.config(**SIZES), dtype="mixed_bfloat16")
    assert model.dtype_policy.name == model.backbone.dtype_policy.name == "mixed_bfloat16"
    again = CausalLM.from_config(model.get_config())
    assert again.backbone.dtype_policy.name == "mixed_bfloat16"


def test_weights_have_names_that_tell_where_they_are(model):
    paths = {weight.path.split("/", 1)[1] for weight in model.weights}
    assert "gpt2/block_0/attention/query/kernel" in paths and len(paths) == len(model.weights)
    assert {weight.path.split("/", 1)[0] for weight in model.weights} == {model.name}


def test_a_model_is_a_part_of_other_models(model):
    inputs = {"token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
              "padding_mask": keras.Input((None,), dtype="bool", name="padding_mask")}
    whole = keras.Model(inputs, keras.layers.Softmax()(model(inputs)))
    assert whole.output_shape == (None, None, 11)
    data = {"token_ids": np.ones((2, 5), "int32"), "padding_mask": np.ones((2, 5), bool)}
    np.testing.assert_allclose(keras.ops.convert_to_numpy(whole(data)).sum(axis=-1), 1.0, rtol=1e-5)

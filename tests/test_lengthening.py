"""A RoBERTa made long computes what it did, where a text fits into a window; and reads longer ones."""
import numpy as np
import pytest
from keras import ops

import kzoo

SIZES = dict(vocabulary_size=29, num_layers=2, num_heads=4, hidden_dim=24, intermediate_dim=37, max_sequence_length=7)
IDS = np.random.default_rng(0).integers(0, 29, (2, 7)).astype("int32")
REAL = np.arange(7) < np.array([[7], [4]])


def redrawn(model):
    draw = np.random.default_rng(1)
    model.set_weights([draw.normal(0, 0.3, weight.shape).astype("float32") for weight in model.weights])
    return model


def outputs(model, **inputs):
    return ops.convert_to_numpy(model(inputs))


@pytest.mark.parametrize("task, settings", [("fill-mask", {}), ("text-classification", {"labels": ("a", "b", "c")})])
def test_it_is_the_short_model_on_short_texts(task, settings):
    """Also where global tokens have projections of their own: these are copies."""
    model = redrawn(kzoo.create("roberta-base", task=task, **SIZES, **settings))
    long = kzoo.lengthen(model, max_sequence_length=17, window_size=7, sep_id=3)
    assert (long.family.name, long.task, long.settings()) == ("longformer", task, model.settings())
    assert (long.config.max_sequence_length, long.config.window_size, long.config.sep_id) == (17, 7, 3)
    expected, mask = outputs(model, token_ids=IDS, padding_mask=REAL), REAL if task == "fill-mask" else slice(None)
    for chosen in ({}, {"global_mask": np.arange(7) % 3 == np.array([[0], [1]])}):
        result = outputs(long, token_ids=IDS, padding_mask=REAL, **chosen)
        np.testing.assert_allclose(result[mask], expected[mask], atol=1e-5)
    narrow = kzoo.lengthen(model, max_sequence_length=17, window_size=2)
    assert np.abs(outputs(narrow, token_ids=IDS, padding_mask=REAL) - expected).max() > 1e-3


def test_positions_begin_anew():
    model = redrawn(kzoo.create("roberta-base", **SIZES))
    long = kzoo.lengthen(model, max_sequence_length=17, window_size=7)
    short, table = (ops.convert_to_numpy(each.backbone.position_embedding.embeddings) for each in (model, long))
    assert table.shape == (19, 24)
    np.testing.assert_array_equal(table[:9], short)  # with the two before the first position
    np.testing.assert_array_equal(table[9:16], short[2:])
    np.testing.assert_array_equal(table[16:], short[2:5])
    assert np.isfinite(outputs(long, token_ids=np.zeros((1, 17), "int32"))).all()


def test_a_checkpoint_goes_in_and_a_longer_one_comes_out(tmp_path):
    kzoo.save(redrawn(kzoo.create("roberta-base", **SIZES)), tmp_path / "short", format="hugging_face")
    long = kzoo.lengthen(kzoo.load(tmp_path / "short"), 17, (4, 3))
    kzoo.save(long, tmp_path / "long", format="hugging_face")
    again = kzoo.load(tmp_path / "long")
    assert again.config == long.config and again.newly_initialized == ()


@pytest.mark.parametrize("options, words", [
    ({"max_sequence_length": 6}, "`max_sequence_length` must be at least the model's, 7. Received: 6"),
    ({"window_size": 0}, "`window_size` of LongformerConfig must be at least 1"),
    ({"windowsize": 3}, "windowsize"),
])
def test_what_does_not_fit_is_refused(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        kzoo.lengthen(kzoo.create("roberta-base", **SIZES), **options)


def test_other_families_are_refused():
    model = kzoo.create("gpt2-nano", vocabulary_size=9, num_layers=1)
    with pytest.raises(ValueError, match="must be a task model of the family 'bert'.* Received: gpt2"):
        kzoo.lengthen(model)

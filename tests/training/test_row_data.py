"""Rows as data of a run: what training sees, and that a validation is the formula written out."""
import types

import keras
import numpy as np
import pytest

from kzoo.training.example_files import Examples, Ragged
from kzoo.training.options import TrainOptions
from kzoo.training.row_data import RowData
from kzoo.training.row_encoders import SequenceLabels, TextPairs

N, V = 41, 23
TOKENIZER = types.SimpleNamespace(pad_id=0)
CONFIG = types.SimpleNamespace(pad_id=0, eos_id=1, decoder_start_id=0)


def labelled(count=N, seed=0):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 29, size=count)
    return Examples({"token_ids": Ragged(random.integers(1, V, size=lengths.sum()), lengths),
                     "label": random.integers(3, size=count)}, {})


def paired(count=N, seed=0):
    random = np.random.default_rng(seed)
    sides = [random.integers(1, 29, size=count) for _ in range(2)]
    return Examples({name: Ragged(random.integers(1, V, size=lengths.sum()), lengths)
                     for name, lengths in zip(("source", "target"), sides, strict=True)}, {})


def make(encoder_class=SequenceLabels, examples=labelled, class_weights=None, **options):
    options = TrainOptions(**{"batch_size": 5, **options})
    encoder = encoder_class(TOKENIZER, options, CONFIG, 40, ("a", "b", "c"))
    encoder.class_weights = class_weights
    return RowData(examples(), examples(19, seed=1), options, encoder)


class Pooled(keras.Model):
    """Logits of a text: the mean over its real tokens of a table's rows."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = keras.layers.Embedding(V, 3, embeddings_initializer=keras.initializers.RandomNormal(seed=3))
        self.table.build(None)
        self.built = True

    def call(self, inputs):
        mask = keras.ops.cast(inputs["padding_mask"], "float32")[..., None]
        return keras.ops.sum(self.table(inputs["token_ids"]) * mask, axis=1) / keras.ops.sum(mask, axis=1)


@pytest.mark.parametrize("batch_size", [4, 7, 100])
def test_a_validation_is_the_mean_over_rows_whatever_the_batch(batch_size):
    data, model = make(batch_size=batch_size), Pooled()
    table = keras.ops.convert_to_numpy(model.table.embeddings)
    losses, right = [], []
    for row in range(19):
        logits = table[data.valid["token_ids"][row]].mean(axis=0)
        label = data.valid["label"][row]
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
        right.append(logits.argmax() == label)
    seen = []
    found = data.scorer(model).results(report=seen.append)
    assert found == {"loss": pytest.approx(np.mean(losses), rel=1e-5), "accuracy": pytest.approx(np.mean(right)),
                     "examples": 19}
    assert seen[-1] == data.valid["token_ids"].lengths.sum()
    chosen = np.arange(5) * 19 // 5
    part = data.scorer(model).score(max_tokens=data.valid["token_ids"].lengths.sum() * 5 // 19 + 1)
    assert part["loss"] == pytest.approx(np.mean(np.array(losses)[chosen]), rel=1e-5)


def test_class_weights_count_in_training_only():
    weights = np.array([0.5, 1.0, 4.0], "float32")
    data, plain = make(class_weights=weights), make()
    for number in range(5):
        (_, targets, found), (_, _, before) = data.batch(number), plain.batch(number)
        np.testing.assert_array_equal(found, weights[targets] * before)
    _, _, scaled = next(iter(data.dataset(0, 1)))
    assert np.sum(np.asarray(scaled)) == pytest.approx(1.0)
    model = Pooled()
    assert data.scorer(model).score() == plain.scorer(model).score()


def test_rows_that_fill_up_a_batch_weigh_nothing():
    data = make(batch_size=6)
    total = sum(data.batch(number)[2].sum() for number in range(data.steps_per_epoch()))
    assert total == N
    assert any((data.batch(number)[2] == 0).any() for number in range(data.steps_per_epoch()))


def test_sizes_of_a_run():
    data = make(TextPairs, paired, batch_size=3, gradient_accumulation=2, length_buckets=2)
    assert data.num_shapes == 2 and data.sequence_length == data.shapes.max() <= 40
    assert data.largest_batch == 3 * data.shapes.sum(axis=1).max()
    assert data.steps_per_epoch() == -(-data._buckets.batches_per_epoch // 2)
    assert data.tokens(3) == data._buckets.tokens(6) > 0
    batches = list(data.dataset(2, 6))
    assert len(batches) == 4 and set(batches[0][0]) == {"encoder_token_ids", "encoder_padding_mask",
                                                        "decoder_token_ids", "decoder_padding_mask"}
    assert sum(np.sum(np.asarray(weights)) for _, _, weights in batches[:2]) == pytest.approx(2.0)


def test_nothing_held_out_is_nothing_to_measure():
    options = TrainOptions(batch_size=5)
    data = RowData(labelled(), None, options, SequenceLabels(TOKENIZER, options, CONFIG, 40, ("a", "b", "c")))
    assert data.valid is None and data.scorer(None) is None


def test_sorted_batches_of_pairs_have_one_source_length():
    def spread(**options):
        data = make(TextPairs, paired, batch_size=3, length_buckets=2, **options)
        masks = [data.batch(number)[0]["encoder_padding_mask"] for number in range(data.steps_per_epoch())]
        return np.mean([np.ptp(mask.sum(axis=1)) for mask in masks])

    assert spread(sort_by_length=True) < 0.5 * spread()

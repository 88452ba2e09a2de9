"""Seeds as tensors: the same draws as by the generators themselves, which stay as they are."""
import keras
import numpy as np
from keras import ops

from kzoo.layers import Attention, Dropout
from kzoo.layers.seeds import GivenSeed, WeightDropout, dropout_layers, given_seeds

x = np.ones((3, 50), "float32")


def array(x):
    return ops.convert_to_numpy(x)


def test_given_seeds_are_those_of_the_generator():
    generator = keras.random.SeedGenerator(7)
    given = GivenSeed(generator.state.value * 1)
    for _ in range(3):
        np.testing.assert_array_equal(array(given.next()), array(generator.next()))
    assert given.drawn == 3


def test_layers_draw_by_the_seeds_they_are_given():
    layer = Dropout(0.5, seed=3)
    state = layer.seed_generator.state.value * 1
    first, second = (array(layer(x, training=True)) for _ in range(2))
    before = array(layer.seed_generator.state)
    with given_seeds([layer], [state]) as given:
        np.testing.assert_array_equal(array(layer(x, training=True)), first)
        np.testing.assert_array_equal(array(layer(x, training=True)), second)
    assert given[0].drawn == 2 and (first != second).any()
    np.testing.assert_array_equal(array(layer.seed_generator.state), before)
    assert (array(layer(x, training=True)) != second).any()  # it goes on where it was


def test_layers_that_drop_are_found():
    assert dropout_layers(Attention(3, 4, dropout=0.0)) == []
    layer = Attention(3, 4, dropout=0.2)
    assert dropout_layers(layer) == [layer.dropout]


def test_parts_of_weights_are_dropped_by_number():
    layer = Dropout(0.5, seed=3)
    dropout = WeightDropout(layer, training=True)
    seed = dropout.draw()
    first, again, second = (array(dropout.drop(x, seed, number)) for number in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != second).any() and set(np.unique(first)) == {0, 2}
    assert WeightDropout(layer, training=False).draw() is None
    assert WeightDropout(Dropout(0.0), training=True).draw() is None
    np.testing.assert_array_equal(array(WeightDropout(layer, training=False)(x)), x)

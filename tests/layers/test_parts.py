"""Parts are values: equal when their fields are, and saved by Keras like layers."""
import keras
import pytest

from kzoo.layers import ALiBi, Causal, Everything, Full, NoPosition, Rotary, SlidingWindow


@pytest.mark.parametrize("part", [Causal(), Everything(), SlidingWindow(3), Full(), NoPosition(), ALiBi(),
                                  Rotary(500.0)], ids=lambda part: type(part).__name__)
def test_round_trip(part):
    config = keras.saving.serialize_keras_object(part)
    assert keras.saving.deserialize_keras_object(config) == part
    assert config["registered_name"] == f"kzoo>{type(part).__name__}"


def test_parts_that_differ_are_not_equal():
    assert Rotary(500.0) != Rotary() and SlidingWindow(3) != SlidingWindow(4) and Causal() != Everything()

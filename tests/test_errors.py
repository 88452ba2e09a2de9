"""The sentence for an unknown name."""
import pytest

from kzoo.errors import CheckFailed, closest, unknown

FORMATS = ("savedmodel", "onnx", "tflite")


def test_the_closest_name_is_suggested():
    assert unknown("format", "tflight", FORMATS) == (
        "Unknown format 'tflight'. Did you mean 'tflite'? Choose one of: onnx, savedmodel, tflite.")
    assert closest("format", "tflight", FORMATS) == "Unknown format 'tflight'. Did you mean 'tflite'?"


@pytest.mark.parametrize("name", ["SavedModel", "ONNX", "Onx"])
def test_capital_letters_do_not_matter(name):
    assert "Did you mean" in unknown("format", name, FORMATS)


def test_nothing_is_suggested_for_a_name_that_resembles_none():
    assert unknown("format", "zzz", FORMATS) == "Unknown format 'zzz'. Choose one of: onnx, savedmodel, tflite."


def test_names_of_any_type_and_empty_lists_do_not_fail():
    assert "Unknown size None." in unknown("size", None, [3, 5])
    assert "there is none" in unknown("preset", "x", {})


def test_a_failed_check_is_no_bad_input():
    assert not issubclass(CheckFailed, (ValueError, TypeError, OSError, ImportError))

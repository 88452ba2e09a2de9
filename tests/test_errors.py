"""The sentence for an unknown name."""
import configparser
import pathlib

import pytest

from kzoo.errors import EXTRAS, CheckFailed, closest, not_installed, unknown

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


@pytest.mark.parametrize("name, extra", [("keras", "train"), ("tensorflow.lite", "train"), ("tf2onnx", "export")])
def test_a_missing_package_is_named_with_its_extra(name, extra):
    error = not_installed(ModuleNotFoundError(f"No module named {name!r}", name=name))
    assert isinstance(error, ImportError) and f"kzoo[{extra}]" in str(error) and name in str(error)


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'x'", name="x"), ImportError("broken")])
def test_other_import_errors_stay_what_they_are(error):
    assert not_installed(error) is error


def test_every_extra_exists():
    settings = configparser.ConfigParser()
    settings.read(pathlib.Path(__file__).resolve().parents[1] / "setup.cfg")
    for package, extra in EXTRAS.items():
        brought = settings["options.extras_require"][extra]
        assert {"sklearn": "scikit-learn"}.get(package, package).replace("_", "-") in brought, package


def test_a_failed_check_is_no_bad_input():
    assert not issubclass(CheckFailed, (ValueError, TypeError, OSError, ImportError))

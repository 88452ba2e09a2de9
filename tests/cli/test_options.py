"""Kinds of option values."""
import argparse

import pytest

from kzoo.cli import options


@pytest.mark.parametrize("convert, text, value", [
    (options.whole_number(1), "17", 17),
    (options.whole_number(0), "0", 0),
    (options.number(), "-2.5", -2.5),
    (options.number(0, 1), "1", 1.0),
    (options.number(0), "1e-3", 0.001),
    (options.comma_list, "onnx, tflite", ("onnx", "tflite")),
    (options.assignment, "num_layers=4", ("num_layers", "4")),
    (options.assignment, "name=a=b", ("name", "a=b")),
    (options.task, "text-generation", "text-generation"),
])
def test_a_value_is_read(convert, text, value):
    assert convert(text) == value


@pytest.mark.parametrize("convert, text, words", [
    (options.whole_number(1), "0", "must be a whole number of at least 1. Received: '0'"),
    (options.whole_number(1), "2.5", "whole number"),
    (options.number(0), "-1", "must be a number of at least 0. Received: '-1'"),
    (options.number(0, 1), "1.5", "at least 0 and at most 1"),
    (options.number(), "nan", "must be a number"),
    (options.number(), "inf", "must be a number"),
    (options.number(), "x", "must be a number"),
    (options.comma_list, "onnx,,tflite", "separated by commas"),
    (options.assignment, "num_layers", "must be written NAME=VALUE"),
    (options.assignment, "=4", "must be written NAME=VALUE"),
    (options.task, "text-generatoin", "Did you mean 'text-generation'?"),
    (options.data_file, "missing.txt", "missing.txt does not exist"),
])
def test_a_value_that_does_not_fit_is_refused(convert, text, words):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        convert(text)
    assert words in str(caught.value)


def test_a_folder_is_no_data_file(tmp_path):
    with pytest.raises(argparse.ArgumentTypeError, match="is a folder, not a data file"):
        options.data_file(str(tmp_path))


def test_a_model_is_a_folder(tmp_path):
    parser = argparse.ArgumentParser(exit_on_error=False)
    options.add_folder(parser, "path", "PATH", "a run")
    assert parser.parse_args([str(tmp_path)]).path == str(tmp_path)
    (tmp_path / "file").write_text("")
    for name, words in (("file", "is a file, not a folder"), ("missing", "does not exist")):
        with pytest.raises(argparse.ArgumentError, match=words):
            parser.parse_args([str(tmp_path / name)])


def test_only_what_was_given_is_passed_on():
    args = argparse.Namespace(steps=5, seed=0)
    assert options.given(args, ["steps", "seed", "epochs"]) == {"steps": 5, "seed": 0}

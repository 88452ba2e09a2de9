"""Tables, fields and sizes."""
import json
import sys

import numpy as np
import pytest

from kzoo.cli import output


def test_a_table_is_aligned(capsys):
    output.print_table(["name", "size>"], [("gpt2-nano", 7), ("x", 12345), (None, True)])
    assert capsys.readouterr().out == "name        size\ngpt2-nano      7\nx          12345\n-            yes\n"


def test_a_table_in_a_terminal_has_rules_and_no_markup(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.print_table(["name", "size>"], [("[red]", 7)])
    out = capsys.readouterr().out
    assert "[red]" in out and "┃" in out


def test_fields_without_a_value_are_left_out(capsys):
    output.print_fields({"kind": "run", "task": None, "family": "gpt2"})
    assert capsys.readouterr().out == "kind    run\nfamily  gpt2\n"


def test_json_keeps_letters(capsys):
    output.print_json({"text": "größer"})
    out = capsys.readouterr().out
    assert "größer" in out and json.loads(out) == {"text": "größer"}


def test_json_has_no_numbers_that_are_none(capsys):
    output.print_json({"loss": float("nan"), "rows": (np.float32(0.5), np.int64(3), [float("inf")], True)})
    assert json.loads(capsys.readouterr().out) == {"loss": None, "rows": [0.5, 3, [None], True]}


def test_numbers_in_a_table_are_short(capsys):
    output.print_table(["value"], [(1.23456789e-05,), (False,)])
    assert capsys.readouterr().out == "value\n1.235e-05\nNO\n"


def test_progress_goes_to_stderr(capsys):
    output.progress("half way")
    assert capsys.readouterr() == ("", "half way\n")


@pytest.mark.parametrize("count, text", [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1234567, "1.2 MB"),
                                         (5_000_000_000, "5.00 GB")])
def test_sizes(count, text):
    assert output.file_size(count) == text


@pytest.mark.parametrize("count, text", [(7, "7"), (1700, "1.7k"), (124439808, "124.4M"), (1557611200, "1.6B")])
def test_counts(count, text):
    assert output.counted(count) == text

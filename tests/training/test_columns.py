"""Columns as they are written on a command line."""
import pytest

from kzoo.training.columns import has_names, parse_columns


def test_columns_are_read_from_words():
    roles = ("text", "label")
    assert parse_columns("text=title+2, label=4", roles) == {"text": ("title", 2), "label": (4,)}
    assert parse_columns({"label": 4}, roles) == {"text": ("text",), "label": (4,)}
    assert parse_columns(None, roles) is None
    for columns, words in (("txet=1", "Did you mean 'text'"), ("text=0", "position from 1 .* Received: '0'"),
                           ("text=", "Received: ''"), ({"text": True}, "Received: True")):
        with pytest.raises(ValueError, match=words):
            parse_columns(columns, roles)


def test_a_name_means_a_header():
    assert has_names({"text": (4,), "label": ("class",)})
    assert not has_names({"text": (4,), "label": (1,)}) and not has_names(None)

"""`kzoo demo`: one option."""
import sys
import types

from kzoo.cli import main


def test_the_folder_is_passed_on(monkeypatch):
    calls = []
    monkeypatch.setattr("kzoo.cli.start.start_backend", lambda: None)
    monkeypatch.setitem(sys.modules, "kzoo.demo", types.SimpleNamespace(demo=lambda **kwargs: calls.append(kwargs)))
    assert main(["demo"]) == 0
    assert main(["demo", "--out", "elsewhere"]) == 0
    assert calls == [{}, {"out": "elsewhere"}]

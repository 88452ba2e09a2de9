"""`kzoo explain`: a table, JSON or a page."""
import json

import numpy as np

from kzoo.cli import main
from kzoo.explanation import Explanation

FOUND = Explanation("ab", ("a", "b"), "The label", "good", -0.25, ("attention",), np.ones((1, 1, 2, 2)),
                    np.eye(2) * 0.5, None, np.array([0.25, -0.5], "float32"), 0.0, 0.0, 16)


def test_tokens_are_listed_with_their_shares(replace, tmp_path, capsys):
    replace("load", "model")
    asked = replace("explain", FOUND)
    assert main(["explain", str(tmp_path), "ab", "--answer", "good", "--position", "1"]) == 0
    assert asked.calls == [(("model", "ab"), {"answer": "good", "position": 1})]
    out = capsys.readouterr().out
    assert "The label: 'good' (log-probability -0.250)" in out
    assert "+0.250" in out and "-0.500" in out and "0.500" in out


def test_json(replace, tmp_path, capsys):
    replace("load", "model")
    replace("explain", FOUND)
    assert main(["explain", str(tmp_path), "ab", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"][1] == {"token": "b", "attribution": -0.5}


def test_a_page_is_written(replace, tmp_path, capsys):
    replace("load", "model")
    asked = replace("explain", FOUND)
    assert main(["explain", str(tmp_path), "ab", "--html", str(tmp_path / "page.txt")]) == 2
    assert "give it a name that ends in .html" in capsys.readouterr().err and asked.calls == []
    assert main(["explain", str(tmp_path), "ab", "--html", str(tmp_path / "page.html")]) == 0
    assert "Integrated gradients" in (tmp_path / "page.html").read_text()


def test_bundles_are_sent_back(tmp_path, capsys):
    (tmp_path / "manifest.json").write_text("{}")
    assert main(["explain", str(tmp_path), "ab"]) == 2
    assert "explain the run that it came from" in capsys.readouterr().err

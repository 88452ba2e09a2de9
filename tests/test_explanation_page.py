"""The page of an explanation: texts cannot break out of it, large ones show the mean of heads."""
import json
import re

import numpy as np

from kzoo import explanation_page
from kzoo.explanation import Explanation
from kzoo.explanation_page import render_explanation


def made(tokens, heads=3):
    size = len(tokens)
    even = np.full((2, heads, size, size), 1 / size, "float32")
    return Explanation("".join(tokens), tuple(tokens), "The label", "</script><b>", -0.5, ("one", "two"), even,
                       even[0, 0], None, np.arange(size, dtype="float32"), -1.5, 0.001, 16)


def data_of(text):
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def test_a_token_cannot_end_the_script():
    text = render_explanation(made(["</script>", "<b>", "&"]))
    assert data_of(text)["tokens"] == ["</script>", "<b>", "&"]
    assert "<b>The" not in text and "'&lt;/script&gt;" not in data_of(text)["tokens"]
    assert "&lt;/script&gt;&lt;b&gt;" in text and text.count("</script>") == 2


def test_probability_and_gap_are_told():
    text = render_explanation(made(["a", "b"]))
    assert "60.7 %" in text and "1.0e-03" in text and "16 steps" in text
    assert text.count("<option") == 1 + 2 + 1 + 3


def test_large_ones_show_the_mean_of_their_heads(monkeypatch):
    monkeypatch.setattr(explanation_page, "MOST_NUMBERS", 20)
    text = render_explanation(made(["a", "b"]))
    assert np.shape(data_of(text)["attention"]) == (2, 1, 2, 2)
    assert text.count("<option") == 1 + 2 + 1

"""Sessions that take strings, and what they refuse."""
import pytest

from kzoo.export import open_bundle
from tests import onnx_operators

onnx_operators.need()


@pytest.fixture
def session(text_bundle):
    return open_bundle(text_bundle[1], runtime="onnx-text")


def test_answers_and_signatures(session, text_bundle):
    assert session("the fox")["label"] == text_bundle[0]("the fox")["label"]
    assert session(["the fox"])[0]["scores"].keys() == {"short", "long", "neither"}
    outputs = session.run("answer", {"texts": ["the fox", "a"]})
    assert outputs["token_ids"].shape == outputs["padding_mask"].shape and outputs["logits"].shape == (2, 3)


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda session: session(7), TypeError, "`inputs` must be a text"),
    (lambda session: session([]), ValueError, "`texts` is empty"),
    (lambda session: session.run("forward", {"texts": ["a"]}), ValueError, "Unknown signature 'forward'"),
    (lambda session: session.run("answer", {"token_ids": [[1]]}), ValueError, "takes `texts` alone"),
])
def test_what_is_refused(session, call, error, words):
    with pytest.raises(error, match=words):
        call(session)

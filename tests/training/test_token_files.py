"""Tokens on disk: equal to encoding in memory, found again, and made anew when anything differs."""
import numpy as np
import pytest

from kzoo.tokenizers import train_tokenizer
from kzoo.training import token_files
from kzoo.training.text_files import check_text
from kzoo.training.token_files import encode_text

TEXT = "the cat sat on the mat\n" * 29


@pytest.fixture
def tokenizer():
    return train_tokenizer("character", [TEXT])


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "data.txt"
    path.write_text(TEXT)
    return check_text(path)


@pytest.fixture
def writes(monkeypatch):
    """How often tokens were written."""
    calls, original = [], token_files._write
    monkeypatch.setattr(token_files, "_write", lambda *arguments: calls.append(1) or original(*arguments))
    return calls


def test_holds_the_ids_of_the_part(tmp_path, tokenizer, text, monkeypatch):
    monkeypatch.setattr(token_files, "PIECES", 2)
    seen = []
    tokens = encode_text(text, tokenizer, tmp_path, "a", 5, 101, seen.append)
    assert tokens.dtype == np.uint16
    np.testing.assert_array_equal(tokens, tokenizer.encode(TEXT[5:101], add_special_tokens=False))
    assert seen[-1] == 96


def test_is_found_again(tmp_path, tokenizer, text, writes):
    first = np.array(encode_text(text, tokenizer, tmp_path, "a"))
    second = encode_text(text, tokenizer, tmp_path, "a")
    np.testing.assert_array_equal(first, second)
    assert len(writes) == 1


@pytest.mark.parametrize("change", ["text", "start", "tokenizer", "truncated", "no json", "damaged json", "no tokens"])
def test_is_made_anew_when_anything_differs(tmp_path, tokenizer, text, writes, change):
    expected = np.array(encode_text(text, tokenizer, tmp_path, "a"))
    start = 0
    if change == "text":
        text.paths[0].write_text(TEXT.upper().lower() + "a")
        text = check_text(text.paths)
        expected = np.append(expected, tokenizer.encode("a"))
    elif change == "start":
        start, expected = 3, expected[3:]
    elif change == "tokenizer":
        tokenizer = train_tokenizer("character", [TEXT + "ABC"])
        expected = np.array(tokenizer.encode(TEXT))
    elif change == "truncated":
        (tmp_path / "a.tokens").write_bytes((tmp_path / "a.tokens").read_bytes()[:-2])
    elif change == "no json":
        (tmp_path / "a.json").unlink()
    elif change == "damaged json":
        (tmp_path / "a.json").write_text("{")
    else:
        (tmp_path / "a.tokens").unlink()
    np.testing.assert_array_equal(encode_text(text, tokenizer, tmp_path, "a", start), expected)
    assert len(writes) == 2


def test_large_vocabularies_take_four_bytes(tmp_path, text):
    class Large:
        vocabulary_size = 70_001
        fingerprint = "x"

        def encode_batch(self, texts, add_special_tokens):
            return [[70_000] * len(each) for each in texts]

    tokens = encode_text(text, Large(), tmp_path, "a")
    assert tokens.dtype == np.uint32
    assert set(tokens.tolist()) == {70_000}


def test_an_empty_part_has_no_tokens(tmp_path, tokenizer, text):
    assert len(encode_text(text, tokenizer, tmp_path, "a", 7, 7)) == 0


def test_documents_end_where_the_text_says_so(tmp_path, writes):
    path = tmp_path / "data.txt"
    path.write_text("one two<|endoftext|>three\n" * 3)
    tokenizer = train_tokenizer("byte-bpe", ["one two three\n"], 270)
    kinds = [np.array(encode_text(check_text(path), tokenizer, tmp_path, "a", documents=documents))
             for documents in (False, True, True, False)]
    assert [(ids == tokenizer.eos_id).sum() for ids in kinds] == [0, 3, 3, 0] and len(writes) == 3
    assert tokenizer.decode(kinds[0].tolist()) == path.read_text()

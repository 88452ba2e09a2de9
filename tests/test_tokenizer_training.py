"""Training: sizes, streams, the tokens that are made, and what is refused."""
import pathlib
import weakref

import pytest

from kzoo.tokenizers import KINDS, train_tokenizer

LINES = ["the ship passes the lighthouse\n", "the keeper of the lighthouse counts ships\n",
         "é for a ship, ß for none\n"] * 3


@pytest.mark.parametrize("kind, size", [("character", 11), ("byte-bpe", 277), ("wordpiece", 67),
                                        ("sentencepiece", 307)])
def test_the_vocabulary_has_the_size_that_was_asked_for(kind, size):
    tokenizer = train_tokenizer(kind, LINES, size)
    assert tokenizer.kind == kind and tokenizer.vocabulary_size == len(tokenizer.vocabulary) == size
    assert sorted(tokenizer.vocabulary.values()) == list(range(size))


def test_characters_that_do_not_fit_are_the_rarest():
    assert train_tokenizer("character", ["aaabbc"], 3).vocabulary == {"<unk>": 0, "a": 1, "b": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_training_twice_gives_the_same(kind):
    assert train_tokenizer(kind, LINES).fingerprint == train_tokenizer(kind, iter(LINES)).fingerprint
    assert train_tokenizer(kind, LINES).fingerprint != train_tokenizer(kind, [*LINES, "zzz zzz qqq qqq\n"]).fingerprint


@pytest.mark.parametrize("kind, roles", [
    ("character", {"unk": "<unk>"}), ("byte-bpe", dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>")),
    ("wordpiece", {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}),
    ("sentencepiece", {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"})])
def test_special_tokens_come_first_and_only_wordpiece_adds_them(kind, roles):
    tokenizer = train_tokenizer(kind, LINES)
    assert tokenizer.roles == roles
    assert list(tokenizer.special_tokens.values()) == list(range(len(set(roles.values()))))
    added = len(tokenizer.encode("ship")) - len(tokenizer.encode("ship", add_special_tokens=False))
    assert added == (2 if kind == "wordpiece" else 0)


class Text(str):
    """A str that can be watched: a plain one takes no weak reference."""
    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_read_as_a_stream(kind):
    alive, most, count = weakref.WeakSet(), 0, 4001

    def stream():
        nonlocal most
        for index in range(count):
            text = Text(f"{LINES[index % len(LINES)]}")
            alive.add(text)
            most = max(most, len(alive))
            yield text

    train_tokenizer(kind, stream())
    assert most < count / 3  # the libraries buffer some hundreds


@pytest.mark.parametrize("kind, size, words", [
    ("character", 1, "at least 2"), ("byte-bpe", 256, "at least 257 for byte-level BPE: 256 bytes and"),
    ("wordpiece", 7, r"at least \d\d for WordPiece"), ("sentencepiece", 101, r"at least \d\d\d for SentencePiece")])
def test_a_vocabulary_that_is_too_small_is_refused_with_the_least(kind, size, words):
    with pytest.raises(ValueError, match=f"`vocabulary_size` must be {words}.*Received: {size}"):
        train_tokenizer(kind, LINES, size)


def test_a_sentencepiece_vocabulary_that_is_too_large_is_refused_with_the_largest():
    with pytest.raises(ValueError, match=r"`vocabulary_size` 5003 is more than .* The largest is \d+\.") as error:
        train_tokenizer("sentencepiece", LINES, 5003)
    largest = int(str(error.value).split()[-1].rstrip("."))
    assert train_tokenizer("sentencepiece", LINES, largest).vocabulary_size == largest
    with pytest.raises(ValueError, match=f"The largest is {largest}"):
        train_tokenizer("sentencepiece", LINES, largest + 1)


def test_bpe_stops_where_no_pair_occurs_twice():
    assert train_tokenizer("byte-bpe", LINES, 5003).vocabulary_size < 5003


@pytest.mark.parametrize("kind", KINDS)
def test_bad_texts_are_refused(kind):
    for nothing in ([], [""], iter(())):
        with pytest.raises(ValueError, match="`texts` holds no text"):
            train_tokenizer(kind, nothing)
    for value in ("one str", b"bytes", 5):
        with pytest.raises(TypeError, match="`texts` must be an iterable of str"):
            train_tokenizer(kind, value)
    with pytest.raises(TypeError, match="at index 1: 5 .int."):
        train_tokenizer(kind, ["a", 5])
    with pytest.raises(ValueError, match="at index 1 of `texts` holds half of a surrogate pair"):
        train_tokenizer(kind, ["a", "\udc00"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_stream_stays_what_it_is(kind):
    def stream():
        yield "a ship"
        raise OSError("the disk is gone")
    with pytest.raises(OSError, match="the disk is gone"):
        train_tokenizer(kind, stream())


def test_unknown_kinds_and_sizes_are_refused():
    with pytest.raises(ValueError, match="Unknown tokenizer kind 'wordpeace'. Did you mean 'wordpiece'"):
        train_tokenizer("wordpeace", LINES)
    for size in (0, -5, 2.5, True, "300"):
        with pytest.raises(ValueError, match="`vocabulary_size` must be a positive int or None"):
            train_tokenizer("character", LINES, size)


def test_long_lines_are_learnt_from():
    word = "lighthouse"
    tokenizer = train_tokenizer("sentencepiece", [(word + " ") * 1009])  # SentencePiece itself would skip the line
    assert len(tokenizer.encode(word)) == 1


def test_an_open_file_is_an_iterable_of_lines(tmp_path):
    path = pathlib.Path(tmp_path) / "text.txt"
    path.write_text("".join(LINES), encoding="utf-8")
    with open(path, encoding="utf-8") as file:
        assert train_tokenizer("byte-bpe", file).fingerprint == train_tokenizer("byte-bpe", LINES).fingerprint

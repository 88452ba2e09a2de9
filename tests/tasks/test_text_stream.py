import pytest

from kzoo.tasks.text_stream import TextStream, continuation, holds_stop
from kzoo.tokenizers import train_tokenizer
from tests.numpy_decoders import BytesTokenizer

TEXT = "né 漢字 🙂!"


def pieces_of(tokenizer, prompt, ids, stop=()):
    stream = TextStream(tokenizer, prompt, stop)
    return [*(stream.push(each) for each in ids), stream.finish()], stream


def test_a_character_appears_with_its_last_byte():
    pieces, _ = pieces_of(BytesTokenizer(), [65], TEXT.encode())
    expected = [piece for char in TEXT for piece in [""] * (len(char.encode()) - 1) + [char]]
    assert pieces == [*expected, ""]


def test_bytes_that_are_no_character_come_out_when_that_is_certain():
    pieces, _ = pieces_of(BytesTokenizer(), [65], b"a\xffb\xe6\xbc")
    assert pieces == ["a", "", "\ufffdb", "", "", "\ufffd"]


def test_a_character_that_the_prompt_begins_is_new_text():
    prompt, ids = list("a漢".encode()[:2]), list("a漢b".encode()[2:])
    assert pieces_of(BytesTokenizer(), prompt, ids)[0] == ["", "漢", "b", ""]
    assert continuation(BytesTokenizer(), prompt, ids) == "漢b"


def test_ids_without_text_are_skipped():
    pieces, _ = pieces_of(BytesTokenizer(), [256, 65], [66, 257, 999, 67])  # a special token; one beyond the tokenizer
    assert pieces == ["B", "", "", "C", ""]
    assert continuation(BytesTokenizer(), [256, 65], [66, 257, 999, 67]) == "BC"


@pytest.mark.parametrize("stop, expected, stopped", [
    (("cd",), ["a", "b", "", ""], True),
    (("d",), ["a", "b", "c", ""], True),
    (("ce",), ["a", "b", "", "cd", "e", "f"], False),
    (("efg",), ["a", "b", "c", "d", "", ""], False),
    (("bcx", "cd"), ["a", "", "", "b"], True),  # `b` is certain once the text has ended at `cd`
    (("abc", "b"), ["", "a"], True),
])
def test_text_is_held_back_while_it_may_begin_a_stop_text(stop, expected, stopped):
    stream, pieces = TextStream(BytesTokenizer(), [65], stop), []
    for token_id in b"abcdef":
        pieces.append(stream.push(token_id))
        if stream.stopped:
            break
    assert (pieces, stream.stopped) == (expected, stopped)
    assert "".join(pieces) + stream.finish() == continuation(BytesTokenizer(), [65], b"abcdef"[:len(pieces)], stop)
    assert holds_stop(BytesTokenizer(), [65], b"abcdef"[:len(pieces)], stop) == stopped


def test_a_stop_text_is_seen_before_an_unfinished_character():
    class Pairs(BytesTokenizer):  # two bytes a token
        vocabulary_size = 1 << 16

        def decode(self, ids, skip_special_tokens=True):
            return bytes(byte for each in ids for byte in divmod(each, 256)).decode(errors="replace")

    pieces, stream = pieces_of(Pairs(), [], [0x6162, 0x63E6], ("bc",))
    assert (pieces, stream.stopped) == (["a", "", ""], True)


def test_a_stop_text_in_the_prompt_does_not_count():
    assert not holds_stop(BytesTokenizer(), list(b"end"), list(b"less"), ("end", "dl"))
    assert holds_stop(BytesTokenizer(), list(b"end"), list(b"less"), ("es",))


@pytest.mark.parametrize("kind", ["character", "byte-bpe", "wordpiece", "sentencepiece"])
def test_pieces_joined_are_the_text_for_every_kind_of_tokenizer(kind):
    text = "The cat sat on the mat, and the dog - né en été - did not.\nThen the cat left. " * 3
    size = None if kind == "character" else {"byte-bpe": 300, "wordpiece": 90, "sentencepiece": 290}[kind]
    tokenizer = train_tokenizer(kind, text.splitlines(), vocabulary_size=size)
    ids = tokenizer.encode("The cat sat on the mat, and the dog - né en été - did not.", add_special_tokens=False)
    for cut in (3, 7, 11):
        pieces, _ = pieces_of(tokenizer, ids[:cut], ids[cut:])
        assert "".join(pieces) == continuation(tokenizer, ids[:cut], ids[cut:])
        assert tokenizer.decode(ids) == tokenizer.decode(ids[:cut]) + "".join(pieces)
        assert len([piece for piece in pieces if piece]) > 3 and "\ufffd" not in "".join(pieces)


def test_spaces_in_tokens_of_their_own_are_kept():
    class Stripping(BytesTokenizer):  # as SentencePiece does
        def decode(self, ids, skip_special_tokens=True):
            return super().decode(ids).removeprefix(" ")

    text = "a   b  c "
    pieces, _ = pieces_of(Stripping(), [65], text.encode())
    assert "".join(pieces) == text == continuation(Stripping(), [65], text.encode())

"""WordPiece taken apart into characters and words spells every text as the library does."""
import json
import pathlib

import pytest

from kzoo import wordpiece_characters
from kzoo.tokenizers import load_tokenizer, train_tokenizer
from kzoo.wordpiece_characters import LETTERS, take_apart

FOLDER = pathlib.Path(__file__).parent / "fixtures" / "tokenizers"
TEXTS = [json.loads(line)["text"] for line in (FOLDER / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
TEXTS += ["weißen \ufffd SHIP's", "ΣΊΣΥΦΟΣ Σ", "e\u0301 İs", "[CLS] ship[MASK] [cls]", "ship\u2028s\u00a0s\x85s\u200b"]


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    """Only the characters of the texts: all of Unicode takes ten seconds."""
    points = {ord(character) for text in TEXTS for character in text}
    monkeypatch.setattr(wordpiece_characters, "CODE_POINTS", sorted({*range(128), *points, LETTERS[0], LETTERS[7]}))


def spell(parts, text):
    """Ids by the parts, with WordPiece written out."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=parts.model)
    letters = "".join(parts.pieces[index] for index in processor.encode(text))
    ids = {token: index for index, token in enumerate(parts.vocabulary)}
    found = []
    for word in letters.split():
        pieces, start = [], 0
        while start < len(word):
            ends = range(len(word), start, -1)
            starts = parts.suffix if start else ""
            end = next((end for end in ends if starts + word[start:end] in ids), None)
            if end is None or len(word) > parts.longest:
                pieces = [ids[parts.unknown]]
                break
            pieces.append(ids[starts + word[start:end]])
            start = end
        found += pieces
    return found


def test_the_parts_spell_as_the_library_does():
    tokenizer = load_tokenizer(FOLDER / "wordpiece")
    parts = take_apart(tokenizer)
    for text in [*TEXTS, f"{chr(LETTERS[0])} ship {chr(LETTERS[7])}s"]:  # a text may hold the letters themselves
        assert spell(parts, text) == tokenizer.encode(text, add_special_tokens=False), text
    assert len(set(parts.vocabulary)) == tokenizer.vocabulary_size
    assert all(len(piece.encode()) == 3 for piece in parts.pieces[2:])
    other = parts._replace(pieces=[*parts.pieces[:3], *reversed(parts.pieces[3:])])
    assert any(spell(other, text) != spell(parts, text) for text in TEXTS)


def test_case_and_accents_follow_the_tokenizer(tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"aAéeß", "##a", "##é"]
    (tmp_path / "vocab.txt").write_text("\n".join(tokens), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    tokenizer = load_tokenizer(tmp_path)
    for text in ("A a é e\u0301 ß aé", "[MASK]A"):
        assert spell(take_apart(tokenizer), text) == tokenizer.encode(text, add_special_tokens=False)


def test_what_is_not_wordpiece_as_bert_has_it_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="BERT's normaliser"):
        take_apart(train_tokenizer("byte-bpe", TEXTS[:5]))
    monkeypatch.setattr(wordpiece_characters, "LETTERS", LETTERS[:20])
    with pytest.raises(ValueError, match="different characters; WordPiece inside a graph takes 14"):
        take_apart(load_tokenizer(FOLDER / "wordpiece"))

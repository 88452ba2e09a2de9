"""BERT's normaliser and pre-tokenizer as a SentencePiece model, for runtimes that have that and WordPiece, but no BERT.

What BERT does to a text before WordPiece (clean, lower, strip accents, spaces around punctuation and Han characters) it
does character by character. So it is a table, and a SentencePiece model holds one: the rules of its normaliser. The
table is asked of the `tokenizers` library, for every code point, so that it is the library's own:

    text -> SentencePiece with this model -> an id a character -> its letters, joined -> WordPiece on words of letters

Every character that occurs in the vocabulary becomes one of `LETTERS`, whatever it was: all of these take three bytes,
and none is punctuation, a space or a Han character to anybody. So kernels of WordPiece that look at characters, or
count bytes where BERT counts characters, do what they should. A special token in the text is a letter of its own. All
that the vocabulary lacks is one letter, too: a word that has it is unknown either way.
"""
import io
import json
import pathlib
import tempfile
from typing import NamedTuple

from kzoo.sentencepiece_conversion import NORMAL, SPACE, UNIGRAM, UNKNOWN, parse

LETTERS = (*range(0xAC00, 0xD7A4), *range(0xE000, 0xF900))  # Hangul syllables, then those for private use
CODE_POINTS = (*range(0xD800), *range(0xE000, 0x110000))
BETWEEN = "ꙮ"  # stands between what the library is asked about; it makes no other character of it, nor it of another
CHUNK = 8192


class Characters(NamedTuple):
    """A WordPiece tokenizer taken apart.

    Attributes:
        model: bytes of a SentencePiece model of characters.
        pieces: list of str, what each of its ids stands for: a letter, or a space between words. Id 0 is U+0000, for
            which there can be no rule, and stands for what that becomes.
        vocabulary: list of str, the WordPiece tokens by id, written in letters; continuations begin with `suffix`.
        suffix: what marks a continuation.
        unknown: the unknown token in `vocabulary`.
        longest: most letters of a word; one that has more is unknown.
    """
    model: bytes
    pieces: list
    vocabulary: list
    suffix: str
    unknown: str
    longest: int


def wordpiece_parts(tokenizer):
    """(normalizer, model) in tokenizer.json of a WordPiece tokenizer that is BERT's.

    Raises: ValueError for one with parts of its own.
    """
    parts = json.loads(tokenizer.fast.to_str())
    normalizer = parts["normalizer"] or {}
    types = normalizer.get("type"), (parts["pre_tokenizer"] or {}).get("type")
    if types != ("BertNormalizer", "BertPreTokenizer"):
        raise ValueError("WordPiece inside a graph has BERT's normaliser and pre-tokenizer. "
                         f"Received: {types[0]} and {types[1]}.")
    for token in parts["added_tokens"]:
        if not token["special"] or any(token[name] for name in ("lstrip", "rstrip", "single_word", "normalized")):
            raise ValueError("WordPiece inside a graph knows no added tokens but special ones, taken as they are. "
                             f"Received: {token['content']!r}.")
    return normalizer, parts["model"]


def take_apart(tokenizer):
    """The `Characters` of a WordPiece tokenizer. Takes some seconds.

    Raises: ValueError for one with parts of its own, or with more characters than there are letters.
    """
    _, model = wordpiece_parts(tokenizer)
    suffix, tokens = model["continuing_subword_prefix"], tokenizer.vocabulary
    specials = list(tokenizer.special_tokens) if tokenizer.recognises_special_tokens else []
    plain = {token: index for token, index in tokens.items() if token not in specials and token != suffix}
    alphabet = sorted({character for token in plain for character in token.removeprefix(suffix)})
    if len(alphabet) + len(specials) >= len(LETTERS):
        raise ValueError(f"The vocabulary holds {len(alphabet):,} different characters; WordPiece inside a graph takes "
                         f"{len(LETTERS) - len(specials) - 1:,}.")
    letters = map(chr, LETTERS)
    lacking = next(letters)
    letter_of = {name: next(letters) for name in (*specials, *alphabet)}
    vocabulary = [f"{lacking}{index}" for index in range(tokenizer.vocabulary_size)]  # ids that no text reaches
    for token, index in plain.items():
        start = suffix if token.startswith(suffix) else ""
        vocabulary[index] = start + "".join(letter_of[each] for each in token[len(start):])
    for token in specials:
        vocabulary[tokens[token]] = letter_of[token]
    rules = _rules(tokenizer.fast, {each: letter_of[each] for each in alphabet}, lacking)
    pieces = [rules.pop("\0"), " ", lacking, *letter_of.values()]
    rules.update({token: f" {letter_of[token]} " for token in specials})
    return Characters(_model(rules, pieces), pieces, vocabulary, suffix, vocabulary[tokens[model["unk_token"]]],
                      model["max_input_chars_per_word"])


def _rules(fast, letter_of, lacking):
    """Every character -> what it becomes."""
    rules = {BETWEEN: letter_of.get(BETWEEN, lacking)}
    for start in range(0, len(CODE_POINTS), CHUNK):
        characters = [chr(point) for point in CODE_POINTS[start:start + CHUNK] if chr(point) != BETWEEN]
        text = fast.normalizer.normalize_str(BETWEEN + BETWEEN.join(characters) + BETWEEN)
        words = " ".join(word for word, _ in fast.pre_tokenizer.pre_tokenize_str(text))
        for character, found in zip(characters, words.split(BETWEEN)[1:-1], strict=True):
            rules[character] = "".join(" " if each == " " else letter_of.get(each, lacking) for each in found)
    return rules


def _model(rules, pieces):
    """A SentencePiece model that applies the rules and knows all pieces but the first."""
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "rules.tsv"
        path.write_text("".join(f"{_points(text)}\t{_points(becomes)}\n" for text, becomes in rules.items()
                                if text != becomes))
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(  # only to compile the rules: what it learns is replaced
            sentence_iterator=iter(["a b"]), model_writer=model, model_type="char", vocab_size=5, minloglevel=2,
            hard_vocab_limit=False, add_dummy_prefix=False, bos_id=-1, eos_id=-1, normalization_rule_tsv=str(path))
    proto = parse(model.getvalue())
    del proto.pieces[:]
    for index, piece in enumerate(["<unk>", SPACE, *pieces[2:]]):
        proto.pieces.add(piece=piece, score=0.0, type=NORMAL if index else UNKNOWN)
    proto.trainer_spec.model_type, proto.trainer_spec.vocab_size = UNIGRAM, len(pieces)
    return proto.SerializeToString()


def _points(text):
    return " ".join(f"{ord(character):X}" for character in text)

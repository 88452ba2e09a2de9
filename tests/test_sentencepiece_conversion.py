"""A SentencePiece model and its tokenizer.json: the same ids, also where the text names a special token."""
import io
import itertools
import json
import pathlib

import pytest

from kzoo import sentencepiece_conversion as conversion

FIXTURES = pathlib.Path(__file__).parent / "fixtures" / "tokenizers"
TEXTS = [json.loads(line)["text"] for line in (FIXTURES / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
NAMES = ["unigram", "bpe"]
# Short texts of what is difficult: spaces, line ends, the sign for a space, special tokens, unknown characters.
PARTS = ["ship", " ", "  ", "\n", "\u2581", "</s>", "<unk>", "<0x41>", "<", "ß", "é", "ﬁ", "日", "🙂"]
DIFFICULT = ["".join(parts) for parts in itertools.product(PARTS, repeat=3)]


def read(name):
    import sentencepiece
    model = (FIXTURES / f"sentencepiece-{name}" / "spiece.model").read_bytes()
    return model, sentencepiece.SentencePieceProcessor(model_proto=model)


def train(**options):
    import sentencepiece
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXTS[:5] * 5), model_writer=model, minloglevel=2,
                                             **options)
    return model.getvalue(), sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_text_are_equal(name):
    model, processor = read(name)
    fast = conversion.convert(model)
    for text in [*TEXTS, *DIFFICULT]:
        ids = processor.encode(text)
        assert fast.encode(text).ids == ids, text
        known = [index for index in ids if not processor.is_unknown(index)]
        assert fast.decode(known) == processor.decode(known), text


def test_without_the_cuts_a_special_token_in_the_text_would_be_found():
    model, processor = read("unigram")
    fast = conversion.convert(model)
    import tokenizers
    fast.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="never")
    assert fast.encode("ship</s>").ids != processor.encode("ship</s>")


@pytest.mark.parametrize("kind, options", [
    ("unigram", {"vocab_size": 61, "add_dummy_prefix": False, "normalization_rule_name": "identity"}),
    ("unigram", {"vocab_size": 307, "byte_fallback": True, "remove_extra_whitespaces": False,
                 "normalization_rule_name": "identity"}),
    ("unigram", {"vocab_size": 61, "split_by_whitespace": False, "normalization_rule_name": "identity"}),
    ("bpe", {"vocab_size": 83, "normalization_rule_name": "identity"}),
    ("char", {"vocab_size": 29, "normalization_rule_name": "identity", "hard_vocab_limit": False})])
def test_other_layouts_are_equal(kind, options):
    model, processor = train(model_type=kind, **options)
    fast = conversion.convert(model)
    for text in [*TEXTS, *DIFFICULT]:
        assert fast.encode(text).ids == processor.encode(text), text


def test_user_defined_pieces_are_found_in_text():
    model, processor = train(model_type="bpe", vocab_size=83, user_defined_symbols=["<sep>"], add_dummy_prefix=False,
                             normalization_rule_name="identity")
    fast = conversion.convert(model)
    assert fast.encode("the<sep>ship").ids == processor.encode("the<sep>ship")
    assert fast.token_to_id("<sep>") in fast.encode("the<sep>ship").ids


@pytest.mark.parametrize("name, pieces, place", [
    ("</s>", ["a", "/", "s"], 1),       # nothing spans a cut after the first character
    ("</s>", ["a", "s"], 2),            # "<" and "/" are unknown and would be one token
    ("</s>", ["<", "/", "</", "s"], 2),  # "</" is a piece: cut after it
    ("<ab>", ["<a", "ab", "b"], 3)])
def test_a_cut_is_where_no_piece_spans_it(name, pieces, place):
    assert conversion._cut(name, pieces) == place


def test_special_tokens_are_put_around():
    model, processor = read("bpe")
    fast = conversion.convert(model, before=[1], after=[2])
    assert fast.encode("ship").ids == [1, *processor.encode("ship"), 2]
    assert fast.encode("ship", "the").ids == [1, *processor.encode("ship"), 2, *processor.encode("the"), 2]


def test_what_has_no_tokenizer_json_is_refused():
    with pytest.raises(ValueError, match="cannot be written as tokenizer.json. Train a unigram or BPE model"):
        conversion.convert(train(model_type="word", vocab_size=17, hard_vocab_limit=False)[0])
    with pytest.raises(ValueError, match="cannot be written as tokenizer.json"):
        conversion.convert(train(model_type="bpe", vocab_size=83, treat_whitespace_as_suffix=True)[0])
    with pytest.raises(ValueError, match="This is not a SentencePiece model"):
        conversion.parse(b"\xff\xff\xff not a model")

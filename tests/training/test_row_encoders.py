"""Texts, tagged words and pairs as rows of tokens, and rows as batches, written out."""
import types

import numpy as np
import pytest

from kzoo.models.led import LedConfig
from kzoo.tasks.entities import merge
from kzoo.tasks.seq2seq import source_ids
from kzoo.tokenizers import train_tokenizer
from kzoo.training.example_files import ExampleWriter, open_examples
from kzoo.training.options import TrainOptions
from kzoo.training.row_data import RowData
from kzoo.training.row_encoders import SequenceLabels, TextPairs, TokenLabels
from kzoo.training.row_files import Place
from kzoo.training.tables import LabelledText, TaggedWords, TextPair

TEXT = "Ada sang a song and Bob O'Neil left, singing songs of home\n" * 5
PLACE = Place("a.tsv", 1)
CONFIG = types.SimpleNamespace(pad_id=0, eos_id=1, decoder_start_id=0)


@pytest.fixture(scope="module")
def wordpiece():
    return train_tokenizer("wordpiece", [TEXT], 60)


@pytest.fixture(scope="module")
def sentencepiece():
    return train_tokenizer("sentencepiece", [TEXT], 310)


def encoder(cls, tokenizer, limit=None, labels=None, **options):
    return cls(tokenizer, TrainOptions(**options), CONFIG, limit, labels)


def store(made, examples, folder):
    """The rows as they come back from disk."""
    with ExampleWriter(folder, "part", made.ragged, made.single) as writer:
        for _, rows, fault in made.encode(examples):
            assert not fault
            writer.add(rows)
        writer.finish({}, {})
    return open_examples(folder, "part", {})


def test_labelled_texts(wordpiece, tmp_path):
    made = encoder(SequenceLabels, wordpiece, labels=("no", "yes"))
    texts, labels = ["Ada sang", "Bob", "a song and songs"], ["yes", "no", "yes"]
    rows = store(made, [LabelledText(*row, PLACE) for row in zip(texts, labels, strict=True)], tmp_path)
    expected = [wordpiece.encode(text) for text in texts]
    assert [rows["token_ids"][number].tolist() for number in range(3)] == expected
    assert made.lengths(rows).tolist() == [[len(ids)] for ids in expected]
    inputs, targets, weights = made.collate(rows, np.array([2, 0]), (17,))
    assert inputs["token_ids"].shape == (2, 17) and inputs["token_ids"][1, len(expected[0])] == wordpiece.pad_id
    assert inputs["padding_mask"].sum(axis=1).tolist() == [len(expected[2]), len(expected[0])]
    assert targets.tolist() == [1, 1] and weights.tolist() == [1, 1]
    assert inputs["token_ids"][0, :len(expected[2])].tolist() == expected[2]


@pytest.mark.parametrize("truncate, kept", [("end", slice(0, 5)), ("start", slice(-5, None))])
def test_a_long_text_is_cut_where_asked_for_and_keeps_its_special_tokens(wordpiece, truncate, kept):
    text = LabelledText("Ada sang a song and left", "yes", PLACE)
    plain = wordpiece.encode(text.text, add_special_tokens=False)
    (_, rows, fault), = encoder(SequenceLabels, wordpiece, 7, ("no", "yes")).encode([text])
    assert not rows and fault == (f"the text has {len(plain) + 2} tokens and the model takes 7. Cut such texts with "
                                  "truncate='end' (--truncate), or raise `sequence_length`")
    made = encoder(SequenceLabels, wordpiece, 7, ("no", "yes"), truncate=truncate)
    (_, (row,), fault), = made.encode([text])
    assert not fault and made.cut == 1
    assert row["token_ids"] == [wordpiece.cls_id, *plain[kept], wordpiece.sep_id]


def test_a_text_without_tokens_is_a_fault(wordpiece):
    made = encoder(SequenceLabels, wordpiece, labels=("no", "yes"))
    (_, _, fault), = made.encode([LabelledText("\u200b", "no", PLACE)])
    assert fault == "the text gives no tokens"


LABELS = ("B-PER", "I-PER", "O")
SENTENCE = TaggedWords(("Ada", "singing", "O'Neil"), ("B-PER", "O", "B-PER"), PLACE)


def test_the_first_piece_of_a_word_carries_its_tag(wordpiece, tmp_path):
    made = encoder(TokenLabels, wordpiece, labels=LABELS)
    rows = store(made, [SENTENCE], tmp_path)
    pieces = [wordpiece.id_to_token(index) for index in rows["token_ids"][0].tolist()]
    assert rows["token_ids"][0].tolist() == wordpiece.encode("Ada singing O'Neil")
    expected, word = [], 0
    for piece in pieces:
        if piece.startswith("##") or piece in ("[CLS]", "[SEP]"):
            expected.append(-1)
        else:  # the answers tell O, ' and Neil apart
            expected.append([0, 2, 0, 1, 1][word])
            word += 1
    assert word == 5 and rows["tags"][0].tolist() == expected
    inputs, targets, weights = made.collate(rows, np.array([0]), (len(pieces) + 3,))
    assert weights[0].tolist() == [float(tag >= 0) for tag in expected] + [0] * 3
    assert targets[0].tolist() == [max(0, tag) for tag in expected] + [0] * 3
    assert set(inputs) == {"token_ids", "padding_mask"}


@pytest.mark.parametrize("scheme", ["BISE", "BIUL"])
def test_parts_of_a_word_are_one_entity_in_every_scheme(wordpiece, scheme):
    labels = ("O", *(f"{letter}-PER" for letter in scheme))
    sentence = TaggedWords(("O'Neil", "left", "Bob", "O'Neil"), (labels[3], "O", labels[1], labels[4]), PLACE)
    (_, (row,), _), = encoder(TokenLabels, wordpiece, labels=labels).encode([sentence])
    tags = [labels[tag] for tag in row["tags"] if tag >= 0]
    assert tags == [labels[3], "I-PER", "I-PER", "O", "B-PER", labels[4], "I-PER", "I-PER"]
    text = "a " * len(tags)
    found = merge(text, [(tag, 1.0, 2 * place, 2 * place + 1) for place, tag in enumerate(tags)], labels)
    assert [(each["start"] // 2, each["end"] // 2) for each in found] == [(0, 2), (4, 7)]


@pytest.mark.parametrize("kind", ["byte-bpe", "sentencepiece", "character"])
def test_tags_stand_where_words_begin_in_every_kind_of_tokenizer(kind):
    tokenizer = train_tokenizer(kind, [TEXT], None if kind == "character" else 310)
    sentence = TaggedWords(("Bob", "left", "home"), ("B-PER", "O", "O"), PLACE)
    (_, (row,), _), = encoder(TokenLabels, tokenizer, labels=LABELS).encode([sentence])
    assert [tag for tag in row["tags"] if tag >= 0] == [0, 2, 2]
    for start, word in ((0, "Bob"), (1, "left"), (2, "home")):
        places = [place for place, tag in enumerate(row["tags"]) if tag >= 0] + [len(row["tags"])]
        assert tokenizer.decode(row["token_ids"][places[start]:places[start + 1]]).strip() == word


def test_long_sentences_are_cut_between_words():
    tokenizer = train_tokenizer("wordpiece", [" ".join(SENTENCE.words)], 25)  # a piece a character
    (_, (whole,), _), = encoder(TokenLabels, tokenizer, labels=LABELS).encode([SENTENCE])
    (_, rows, _), = encoder(TokenLabels, tokenizer, 12, LABELS).encode([SENTENCE])
    assert len(rows) == 2 and all(len(row["token_ids"]) <= 12 for row in rows)
    (_, shorter, _), = encoder(TokenLabels, tokenizer, 5, LABELS).encode([SENTENCE])  # than a word
    for pieces in (rows, shorter):
        for column in ("token_ids", "tags"):
            assert [value for row in pieces for value in row[column][1:-1]] == whole[column][1:-1]
    assert all(row["tags"][1] >= 0 for row in rows) and not all(row["tags"][1] >= 0 for row in shorter)


def test_pairs_are_shifted_by_one(sentencepiece, tmp_path):
    made = encoder(TextPairs, sentencepiece)
    rows = store(made, [TextPair("Ada sang", "a song", ("a song",), PLACE), TextPair("Bob", "home", ("home",), PLACE)],
                 tmp_path)
    source, target = (sentencepiece.encode(text) + [1] for text in ("Ada sang", "a song"))
    assert made.lengths(rows)[0].tolist() == [len(source), len(target)]
    inputs, targets, weights = made.collate(rows, np.array([0, 1]), (19, 23))
    assert inputs["encoder_token_ids"].shape == (2, 19) and inputs["decoder_token_ids"].shape == (2, 23)
    assert inputs["encoder_token_ids"][0].tolist() == source + [0] * (19 - len(source))
    assert targets[0].tolist() == target + [0] * (23 - len(target))
    assert inputs["decoder_token_ids"][0].tolist() == [0, *target, *[0] * (23 - len(target))][:23]
    for mask in (weights, inputs["decoder_padding_mask"]):
        assert mask[0].tolist() == [1] * len(target) + [0] * (23 - len(target))


def test_sources_end_as_generation_ends_them(sentencepiece):
    (_, (row,), _), = encoder(TextPairs, sentencepiece).encode([TextPair("Ada sang", "x", ("x",), PLACE)])
    assert row["source"] == source_ids(sentencepiece, "Ada sang", CONFIG.eos_id)


@pytest.mark.parametrize("source, target, words", [("Ada sang a song", "a", "the source has"),
                                                   ("Ada", "a song of home", "the target has")])
def test_a_long_side_is_a_fault_that_names_it(sentencepiece, source, target, words):
    pair = TextPair(source, target, (target,), PLACE)
    (_, _, fault), = encoder(TextPairs, sentencepiece, 4).encode([pair])
    assert fault.startswith(words)
    (_, (row,), _), = encoder(TextPairs, sentencepiece, 4, truncate="end").encode([pair])
    assert row["source"][-1] == row["target"][-1] == CONFIG.eos_id
    assert max(len(row["source"]), len(row["target"])) == 4


def test_a_target_has_a_limit_and_a_beginning_of_its_own(wordpiece, tmp_path):
    config = LedConfig(**vars(CONFIG), max_target_length=5)
    (start,), _ = wordpiece.template
    pair = TextPair("a song of home and a song", "a song of home and", ("",), PLACE)
    made = TextPairs(wordpiece, TrainOptions(), config, 40)
    (_, _, fault), = made.encode([pair])
    assert fault.startswith("the target has 7 tokens and the model takes 5.") and "`max_target_length`" in fault
    made = TextPairs(wordpiece, TrainOptions(truncate="end"), config, 40)
    rows = store(made, [pair], tmp_path)
    assert made.cut == 1 and rows["target"][0].tolist() == [start, *wordpiece.encode("a song of")[1:-1], CONFIG.eos_id]
    assert len(rows["source"][0]) > 5
    assert RowData(rows, None, TrainOptions(batch_size=1), made).shapes.tolist() == [[12, 5]]
    (_, (row,), _), = encoder(TextPairs, wordpiece).encode([pair])  # of a family without either
    assert row["target"] == [*wordpiece.encode("a song of home and")[1:-1], CONFIG.eos_id]


def test_the_end_of_a_validation_has_the_perplexity(sentencepiece):
    facts = encoder(TextPairs, sentencepiece).facts({"loss": 2.0}, 3, 17.0)
    assert facts == {"loss": 2.0, "perplexity": pytest.approx(7.389, abs=1e-3), "examples": 3, "target_tokens": 17}

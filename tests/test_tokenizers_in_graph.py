"""The twins in the graph give the ids of the tokenizers, and a check says where they do not."""
import functools
import json
import pathlib
import shutil

import pytest

from kzoo.tokenizers import load_tokenizer, train_tokenizer

tf = pytest.importorskip("tensorflow", reason="the twins run inside a TensorFlow graph")
pytest.importorskip("tensorflow_text", reason="most twins are made of tensorflow-text")

from kzoo.tokenizers_in_graph import KINDS, check_equal, in_graph_tokenizer  # noqa: E402

FIXTURES = pathlib.Path(__file__).parent / "fixtures" / "tokenizers"
ROWS = [json.loads(line) for line in (FIXTURES / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
TEXTS = [row["text"] for row in ROWS]
SHARED = {"bert-base-uncased": "bert_uncased", "t5": "t5", "sentencepiece-test": "spm_test"}


@functools.cache
def make(name):
    if name == "character":
        return train_tokenizer("character", TEXTS[:5])
    return load_tokenizer(FIXTURES / name)


@functools.cache
def make_twin(name, add_special_tokens=True):
    return in_graph_tokenizer(make(name), add_special_tokens)


TWINS = ("character", "wordpiece", "sentencepiece-unigram", "sentencepiece-bpe")


@pytest.mark.parametrize("name", TWINS)
def test_ids_are_equal_with_and_without_special_tokens(name):
    tokenizer = make(name)
    assert tokenizer.kind in KINDS
    for special in (True, False):
        twin = make_twin(name, special)
        ids = twin(tf.constant([text.encode("utf-8") for text in TEXTS]))
        assert isinstance(ids, tf.RaggedTensor) and ids.dtype == tf.int32
        assert ids.to_list() == tokenizer.encode_batch(TEXTS, add_special_tokens=special)
        assert check_equal(tokenizer, TEXTS, twin, special) == []


def test_ids_are_those_of_the_libraries():
    for name in TWINS[1:]:
        twin = make_twin(name, False)
        assert twin(tf.constant([row["text"].encode("utf-8") for row in ROWS])).to_list() == [row[name] for row in ROWS]


@pytest.mark.parametrize("folder", SHARED)
def test_ids_of_published_vocabularies(shared, folder):
    data = shared / "data" / "tokenizers"
    rows = [json.loads(line) for line in (data / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
    twin = in_graph_tokenizer(load_tokenizer(data / folder), add_special_tokens=False)
    received = twin(tf.constant([row["text"].encode("utf-8") for row in rows])).to_list()
    assert received == [row[SHARED[folder]] for row in rows]


# What the ready-made BERT operations of tensorflow-text do differently, or a string operation gets wrong.
CORNERS = ["weißen", "\ufffd ship", "[CLS] ship[MASK]", "[cls] ship", "\x00ship\x00ship\x00", "ship\x07s\u200bs", "İs",
           "ΣΊΣΥΦΟΣ Σ", "日本語ship한국", "a" * 100, "a" * 101, "ä" * 77, "ship\u2028s\u00a0s\x85s", "e\u0301ship",
           "ship's\u2014\u00a1ship!", ""]


@pytest.mark.parametrize("lowercase", [True, False])
def test_wordpiece_in_every_corner(tmp_path, lowercase):
    shutil.copy(FIXTURES / "wordpiece" / "vocab.txt", tmp_path)
    with open(tmp_path / "vocab.txt", "a", encoding="utf-8") as file:  # letters that would all be [UNK] otherwise
        file.write("".join(f"{letter}\n##{letter}\n" for letter in "σςυφο日本語한국äß\u0301"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowercase}), encoding="utf-8")
    assert check_equal(load_tokenizer(tmp_path), CORNERS) == []


def test_a_damaged_vocabulary_is_caught(tmp_path):
    tokenizer = make("wordpiece")
    lines = (FIXTURES / "wordpiece" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    one, other = lines.index("ship"), lines.index("the")
    lines[one], lines[other] = lines[other], lines[one]
    (tmp_path / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")
    twin = in_graph_tokenizer(load_tokenizer(tmp_path))
    damaged = check_equal(tokenizer, TEXTS, twin)
    assert "the" in damaged and "日本語 と 한국어" not in damaged
    assert damaged == [text for text in TEXTS if {one, other} & set(tokenizer.encode(text))]


def test_another_sentencepiece_model_is_caught():
    assert check_equal(make("sentencepiece-unigram"), TEXTS, make_twin("sentencepiece-bpe"))


@pytest.mark.parametrize("name", TWINS)
def test_a_saved_twin_is_the_same(name, tmp_path):
    tokenizer = make(name)
    tf.saved_model.save(make_twin(name), str(tmp_path / "twin"))
    again = tf.saved_model.load(str(tmp_path / "twin"))
    assert check_equal(tokenizer, TEXTS, again) == []


def test_no_texts_are_equal():
    assert check_equal(make("character"), []) == []
    empty = make_twin("wordpiece")(tf.constant([], tf.string))
    assert empty.shape[0] == 0


def test_what_has_no_twin_is_refused(tmp_path):
    with pytest.raises(ValueError, match="byte-bpe .* inside a graph.*: character, wordpiece, sentencepiece"):
        in_graph_tokenizer(make("byte-bpe"))
    make("sentencepiece-unigram").save(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(ValueError, match="needs the model file"):
        in_graph_tokenizer(load_tokenizer(tmp_path))
    make("wordpiece").save(tmp_path)
    parts = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    plain = {"id": len(parts["model"]["vocab"]), "content": "kzoo", "special": False, "single_word": False,
             "lstrip": False, "rstrip": False, "normalized": False}
    for changes, words in [({"normalizer": {"type": "Lowercase"}}, "Received: Lowercase and BertPreTokenizer"),
                           ({"added_tokens": [*parts["added_tokens"], plain]}, "no added tokens.*'kzoo'")]:
        (tmp_path / "tokenizer.json").write_text(json.dumps({**parts, **changes}), encoding="utf-8")
        with pytest.raises(ValueError, match=words):
            in_graph_tokenizer(load_tokenizer(tmp_path))

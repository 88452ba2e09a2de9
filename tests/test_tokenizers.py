"""The four kinds behind one class: ids, decoding, saving, special tokens and bad input."""
import json
import pathlib
import subprocess
import sys

import pytest

from kzoo.tokenizers import KINDS, find_tokenizer, load_tokenizer, train_tokenizer

FIXTURES = pathlib.Path(__file__).parent / "fixtures" / "tokenizers"
ROWS = [json.loads(line) for line in (FIXTURES / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
TEXTS = [row["text"] for row in ROWS]
NAMES = ("byte-bpe", "wordpiece", "sentencepiece-unigram", "sentencepiece-bpe")
SHARED = {"gpt2": "gpt2", "bert-base-uncased": "bert_uncased", "t5": "t5", "sentencepiece-test": "spm_test"}


def trained(kind, size=None):
    return train_tokenizer(kind, [text + "\n" for text in TEXTS[:5]], size)


@pytest.fixture(scope="module")
def all_tokenizers():
    return {**{name: load_tokenizer(FIXTURES / name) for name in NAMES}, "character": trained("character"),
            "trained byte-bpe": trained("byte-bpe", 277), "trained wordpiece": trained("wordpiece", 101),
            "trained sentencepiece": trained("sentencepiece", 331)}


# The ids.

@pytest.mark.parametrize("name", NAMES)
def test_ids_are_those_of_the_libraries(name):
    tokenizer = load_tokenizer(FIXTURES / name)
    assert tokenizer.kind == ("sentencepiece" if name.startswith("sentencepiece") else name)
    for row in ROWS:
        assert tokenizer.encode(row["text"], add_special_tokens=False) == row[name], row["text"]


def test_other_merges_give_other_ids(tmp_path):
    lines = (FIXTURES / "byte-bpe" / "merges.txt").read_text(encoding="utf-8").splitlines()
    lines[1:] = reversed(lines[1:])
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "vocab.json").write_bytes((FIXTURES / "byte-bpe" / "vocab.json").read_bytes())
    tokenizer = load_tokenizer(tmp_path)
    assert any(tokenizer.encode(row["text"]) != row["byte-bpe"] for row in ROWS)


@pytest.mark.parametrize("folder", SHARED)
def test_ids_of_published_vocabularies(shared, folder, tmp_path):
    data = shared / "data" / "tokenizers"
    rows = [json.loads(line) for line in (data / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
    texts, expected = [row["text"] for row in rows], [row[SHARED[folder]] for row in rows]
    tokenizer = load_tokenizer(data / folder)
    assert len(rows) == 123
    assert [tokenizer.encode(text, add_special_tokens=False) for text in texts] == expected
    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path).encode_batch(texts, add_special_tokens=False) == expected
    assert as_hugging_face(tmp_path, texts, add_special_tokens=False) == expected


def test_a_batch_is_its_texts_one_by_one(all_tokenizers):
    for tokenizer in all_tokenizers.values():
        for special in (True, False):
            assert tokenizer.encode_batch(iter(TEXTS), special) == [tokenizer.encode(text, special) for text in TEXTS]
        assert tokenizer.encode_batch([]) == []


@pytest.mark.parametrize("name, before, after", [
    ("byte-bpe", [], []), ("wordpiece", ["[CLS]"], ["[SEP]"]), ("sentencepiece-unigram", [], ["</s>"]),
    ("sentencepiece-bpe", [], [])])
def test_special_tokens_are_added_as_the_files_declare(name, before, after):
    tokenizer = load_tokenizer(FIXTURES / name)
    before, after = ([tokenizer.token_to_id(token) for token in tokens] for tokens in (before, after))
    for row in ROWS:
        assert tokenizer.encode(row["text"]) == before + row[name] + after
    assert tokenizer.template == (tuple(before), tuple(after))


@pytest.mark.parametrize("name, around", [
    ("byte-bpe", [[], [], []]), ("wordpiece", [["[CLS]"], ["[SEP]"], ["[SEP]"]]),
    ("sentencepiece-unigram", [[], ["</s>"], ["</s>"]])])
def test_pairs_have_special_tokens_between(name, around):
    tokenizer = load_tokenizer(FIXTURES / name)
    assert tokenizer.pair_template == tuple(tuple(map(tokenizer.token_to_id, tokens)) for tokens in around)


def test_roberta_has_two_tokens_between_and_a_mask_that_takes_the_space_before_it(tmp_path):
    """<s> a </s></s> b </s>."""
    folder = tmp_path / "roberta"
    folder.mkdir()
    vocabulary = json.loads((FIXTURES / "byte-bpe" / "vocab.json").read_text(encoding="utf-8"))
    for token in ("<s>", "</s>", "<mask>"):
        vocabulary[token] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_bytes((FIXTURES / "byte-bpe" / "merges.txt").read_bytes())
    tokenizer = load_tokenizer(folder)
    begin, end = tokenizer.bos_id, tokenizer.eos_id
    assert tokenizer.pair_template == ((begin,), (end, end), (end,))
    # <mask> takes the space before it, and is text where special tokens are not asked for.
    asked = tokenizer.encode_with_offsets("the <mask> ship", recognise_special_tokens=True)
    assert asked.ids == [*tokenizer.encode("the", False), tokenizer.mask_id, *tokenizer.encode(" ship", False)]
    assert asked.offsets[len(tokenizer.encode("the", False))] == (4, 10)
    assert tokenizer.mask_id not in tokenizer.encode("the <mask> ship")


# Places in the text.

def test_offsets_say_where_a_token_comes_from(all_tokenizers):
    for name, tokenizer in all_tokenizers.items():
        for text in TEXTS:
            encoding = tokenizer.encode_with_offsets(text)
            assert encoding.ids == tokenizer.encode(text, add_special_tokens=False), (name, text)
            assert len(encoding.offsets) == len(encoding.words) == len(encoding.ids)
            starts = [start for start, _ in encoding.offsets]
            assert starts == sorted(starts), (name, text)
            for start, end in encoding.offsets:
                assert 0 <= start <= end <= len(text) and text[start:end] == text[start:end].strip(), (name, text)


@pytest.mark.parametrize("name", NAMES)
def test_offsets_by_hand(name):
    text = " The  keeper's  naïve ships\n"
    encoding = load_tokenizer(FIXTURES / name).encode_with_offsets(text)
    covered = {place for start, end in encoding.offsets for place in range(start, end)}
    assert covered == {place for place, character in enumerate(text) if not character.isspace()}
    words = {}
    for (start, end), number in zip(encoding.offsets, encoding.words, strict=True):
        words.setdefault(number, []).extend(range(start, end))
    found = ["".join(text[place] for place in sorted(set(places))) for places in words.values() if places]
    expected = ["The", "keeper", "'", "s", "naïve", "ships"] if name == "wordpiece" else (
        ["The", "keeper", "'s", "naïve", "ships"] if name == "byte-bpe" else ["The", "keeper's", "naïve", "ships"])
    assert found == expected


def test_offsets_of_special_tokens_and_bad_input():
    tokenizer = load_tokenizer(FIXTURES / "wordpiece")
    encoding = tokenizer.encode_with_offsets("a [MASK] ship")
    assert encoding.ids[1] == tokenizer.mask_id and encoding.offsets[1] == (2, 8)
    assert tokenizer.mask_id not in tokenizer.encode_with_offsets("[MASK]", recognise_special_tokens=False).ids
    with pytest.raises(TypeError, match="`text` must be a str. Received: 3"):
        tokenizer.encode_with_offsets(3)
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        tokenizer.encode_with_offsets("ship \ud800")


# Special tokens inside a text.

def test_end_of_text_in_a_users_text_is_text():
    tokenizer = load_tokenizer(FIXTURES / "byte-bpe")
    ids = tokenizer.encode("a<|endoftext|>b")
    assert tokenizer.eos_id not in ids and tokenizer.decode(ids) == "a<|endoftext|>b"
    asked_for = tokenizer.encode("a<|endoftext|>b", recognise_special_tokens=True)
    assert asked_for == tokenizer.encode("a") + [tokenizer.eos_id] + tokenizer.encode("b")


@pytest.mark.parametrize("name", ["sentencepiece-unigram", "sentencepiece-bpe"])
def test_control_pieces_in_a_users_text_are_text(name):
    tokenizer = load_tokenizer(FIXTURES / name)
    assert tokenizer.eos_id not in tokenizer.encode("ship</s>", add_special_tokens=False)
    assert tokenizer.eos_id in tokenizer.encode("ship</s>", add_special_tokens=False, recognise_special_tokens=True)


def test_wordpiece_recognises_its_special_tokens_unless_told_otherwise():
    tokenizer = load_tokenizer(FIXTURES / "wordpiece")
    assert tokenizer.encode("[MASK]", add_special_tokens=False) == [tokenizer.mask_id]
    plain = tokenizer.encode("[MASK]", add_special_tokens=False, recognise_special_tokens=False)
    assert tokenizer.mask_id not in plain and len(plain) > 1


def test_a_special_token_that_takes_the_space_before_it_still_does(tmp_path):
    tokenizer = load_tokenizer(FIXTURES / "byte-bpe")
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    parts = json.loads(path.read_text(encoding="utf-8"))
    token = {"id": tokenizer.eos_id, "content": "<|endoftext|>", "special": True, "single_word": False, "lstrip": True,
             "rstrip": False, "normalized": False}  # as RoBERTa's <mask>
    path.write_text(json.dumps({**parts, "added_tokens": [token]}), encoding="utf-8")
    ids = load_tokenizer(tmp_path).encode("ship <|endoftext|>", recognise_special_tokens=True)
    assert ids == [*tokenizer.encode("ship"), tokenizer.eos_id]
    ids = tokenizer.encode("ship <|endoftext|>", recognise_special_tokens=True)
    assert ids == [*tokenizer.encode("ship "), tokenizer.eos_id]


# Decoding.

def test_byte_level_bpe_gives_every_text_back(all_tokenizers):
    texts = [*TEXTS, "".join(map(chr, range(0x250))), "".join(map(chr, range(0x1F600, 0x1F650))),
             "\r\n\t\x0b\x85\u2028", "".join(map(chr, (0xD7FF, 0xE000, 0xFFFF, 0x10FFFF)))]
    for name in ("byte-bpe", "trained byte-bpe"):
        tokenizer = all_tokenizers[name]
        assert [tokenizer.decode(ids) for ids in tokenizer.encode_batch(texts)] == texts


def test_trained_sentencepiece_gives_texts_back_but_for_its_own_space_sign(all_tokenizers):
    tokenizer = all_tokenizers["trained sentencepiece"]
    for text in [*TEXTS, "".join(map(chr, range(0x250))), "\r\n\t\x0b\x85\u2028"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text.replace("\u2581", " ")


def test_characters_written_out():
    tokenizer = train_tokenizer("character", ["banana\n", "cab"])
    ids = {"<unk>": 0, "\n": 1, "a": 2, "b": 3, "c": 4, "n": 5}
    assert tokenizer.vocabulary == ids
    assert tokenizer.encode("banca\n\n") == [ids[character] for character in "banca\n\n"]
    assert tokenizer.encode("a<unk>\u0301🙂") == [ids["a"], 0, 0, ids["n"], 0, 0, 0, 0]
    assert tokenizer.decode([3, 2, 0, 1], skip_special_tokens=False) == "ba<unk>\n"
    assert tokenizer.decode([3, 2, 0, 1]) == "ba\n"


def test_characters_of_a_long_text_come_back():
    text = TEXTS[0] * 1009
    tokenizer = trained("character")
    ids = tokenizer.encode(text)
    assert len(ids) == len(text) and tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", ["byte-bpe", "wordpiece", "sentencepiece-unigram"])
def test_decoding_leaves_special_tokens_out_or_names_them(name):
    tokenizer = load_tokenizer(FIXTURES / name)
    special = max(tokenizer.special_tokens.values())
    ids = [*tokenizer.encode("ships", add_special_tokens=False), special]
    assert tokenizer.decode(ids) == "ships"
    assert tokenizer.id_to_token(special) in tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("ids, error, words", [
    ([1, 10007], ValueError, "holds 10007, but this byte-bpe tokenizer has the ids 0 to 353"),
    ([-1], ValueError, "holds -1"), ([1.5], TypeError, "list of integers"), ([[1, 2]], TypeError, "one text at a time"),
    ("12", TypeError, "list of token ids"), (5, TypeError, "list of token ids")])
def test_decoding_refuses_what_are_no_ids(ids, error, words):
    with pytest.raises(error, match=words):
        load_tokenizer(FIXTURES / "byte-bpe").decode(ids)


def test_decoding_takes_numpy_vectors():
    numpy = pytest.importorskip("numpy")
    tokenizer = load_tokenizer(FIXTURES / "byte-bpe")
    assert tokenizer.decode(numpy.array(tokenizer.encode("ships"), "int32")) == "ships"


@pytest.mark.parametrize("kind", KINDS)
def test_encoding_refuses_what_is_no_text(kind):
    tokenizer = trained(kind)
    for value in (None, 5, b"bytes", ["list"]):
        with pytest.raises(TypeError, match="`text` must be a str"):
            tokenizer.encode(value)
    with pytest.raises(TypeError, match=r"`texts\[1\]` must be a str"):
        tokenizer.encode_batch(["a", None])
    with pytest.raises(TypeError, match="call `encode`"):
        tokenizer.encode_batch("a")
    with pytest.raises(ValueError, match="character 2, half of a surrogate pair"):
        tokenizer.encode("ab\ud83d")


# Saving.

def as_hugging_face(folder, texts, add_special_tokens=True):
    """The ids as `transformers` makes them of a saved folder, by the `tokenizers` library alone."""
    import tokenizers
    fast = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    roles = [value for name, value in config.items() if name.endswith("_token") and isinstance(value, str)]
    fast.add_special_tokens([*roles, *config["additional_special_tokens"]])
    fast.encode_special_tokens = config["split_special_tokens"]
    return [row.ids for row in fast.encode_batch(texts, add_special_tokens=add_special_tokens)]


def test_a_saved_tokenizer_is_the_same(all_tokenizers, tmp_path):
    for name, tokenizer in all_tokenizers.items():
        folder = tmp_path / name
        tokenizer.save(folder)
        again = load_tokenizer(folder)
        assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)
        assert as_hugging_face(folder, TEXTS) == tokenizer.encode_batch(TEXTS), name
        for field in ("kind", "vocabulary", "roles", "special_tokens", "template", "recognises_special_tokens",
                      "fingerprint"):
            assert getattr(again, field) == getattr(tokenizer, field), (name, field)
        assert (folder / "tokenizer.model").exists() == (tokenizer.kind == "sentencepiece")
        assert find_tokenizer(folder) and not list(folder.glob(".*"))


def test_a_client_of_tokenizer_json_alone_does_not_find_special_tokens_in_text(all_tokenizers, tmp_path):
    import tokenizers
    for name in ("byte-bpe", "sentencepiece-unigram", "sentencepiece-bpe", "character"):
        all_tokenizers[name].save(tmp_path / name)
        fast = tokenizers.Tokenizer.from_file(str(tmp_path / name / "tokenizer.json"))
        assert [fast.encode(text).ids for text in TEXTS] == all_tokenizers[name].encode_batch(TEXTS)


def test_transformers_gives_the_same_ids(all_tokenizers, tmp_path):
    transformers = pytest.importorskip("transformers", reason="an optional peer, not a dependency")
    for name, tokenizer in all_tokenizers.items():
        tokenizer.save(tmp_path / name)
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / name)
        assert theirs(TEXTS)["input_ids"] == tokenizer.encode_batch(TEXTS)
        for role in ("bos", "eos", "unk", "pad"):
            assert getattr(theirs, f"{role}_token_id") == getattr(tokenizer, f"{role}_id")


def test_saving_into_a_folder_again_replaces_the_files(tmp_path):
    trained("sentencepiece").save(tmp_path)
    other = trained("byte-bpe")
    other.save(tmp_path)  # tokenizer.model of the first one stays; its pieces are not those of tokenizer.json
    assert load_tokenizer(tmp_path).fingerprint == other.fingerprint


def test_token_type_ids_are_for_wordpiece_only(all_tokenizers, tmp_path):
    for name in ("byte-bpe", "wordpiece"):
        all_tokenizers[name].save(tmp_path / name)
        config = json.loads((tmp_path / name / "tokenizer_config.json").read_text(encoding="utf-8"))
        assert ("token_type_ids" in config["model_input_names"]) == (name == "wordpiece")


def test_the_fingerprint_follows_what_determines_the_ids(tmp_path):
    first = load_tokenizer(FIXTURES / "byte-bpe")
    assert first.fingerprint == load_tokenizer(FIXTURES / "byte-bpe").fingerprint
    first.save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "split_special_tokens": False}), encoding="utf-8")
    assert load_tokenizer(tmp_path).fingerprint != first.fingerprint


def test_truncation_and_padding_in_a_file_do_not_change_the_ids(tmp_path):
    tokenizer = load_tokenizer(FIXTURES / "wordpiece")
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    parts = json.loads(path.read_text(encoding="utf-8"))
    parts["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    parts["padding"] = {"strategy": {"Fixed": 53}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                        "pad_type_id": 0, "pad_token": "[PAD]"}
    path.write_text(json.dumps(parts), encoding="utf-8")
    assert load_tokenizer(tmp_path).encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)


def test_importing_is_light():
    code = ("import sys, kzoo.tokenizers; "
            "print([name for name in ('tensorflow', 'keras', 'tokenizers', 'sentencepiece') if name in sys.modules])")
    root = pathlib.Path(__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ["byte-bpe", "wordpiece", "sentencepiece"])
def test_a_tokenizer_can_be_made_to_close_texts(kind, tmp_path):
    plain = train_tokenizer(kind, ["a fox and a dog"] * 9, vocabulary_size=280)
    end = next(index for token, index in plain.special_tokens.items() if index not in plain.template[1][-1:])
    closing = plain.ending_with(end)
    assert closing.encode("a dog") == [*plain.encode("a dog"), end]
    assert closing.encode("a dog", add_special_tokens=False) == plain.encode("a dog", add_special_tokens=False)
    closing.save(tmp_path)
    assert load_tokenizer(tmp_path).encode("a dog") == closing.encode("a dog")
    assert closing.ending_with(end) is closing and plain.ending_with(9999) is plain

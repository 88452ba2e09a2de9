"""Reading files: what is recognised in a folder, which conventions apply, and what is refused."""
import json
import pathlib
import shutil

import pytest

from kzoo.tokenizers import find_tokenizer, load_tokenizer

FIXTURES = pathlib.Path(__file__).parent / "fixtures" / "tokenizers"
TEXT = "The lighthouse keeper isn't <unk> in a ship"


@pytest.fixture
def folder(tmp_path):
    """folder(name): a copy of a fixture that a test may damage."""
    def copy(name):
        return pathlib.Path(shutil.copytree(FIXTURES / name, tmp_path / name))
    return copy


def edit_json(path, **changes):
    value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    value.update(changes)
    path.write_text(json.dumps(value), encoding="utf-8")


# What is recognised.

@pytest.mark.parametrize("name, files", [
    ("byte-bpe", ["vocab.json", "merges.txt"]), ("wordpiece", ["vocab.txt"]),
    ("sentencepiece-unigram", ["spiece.model"]), ("sentencepiece-bpe", ["spiece.model"])])
def test_a_folder_and_each_of_its_files_are_the_same_tokenizer(name, files):
    expected = load_tokenizer(FIXTURES / name)
    for file in files:
        assert load_tokenizer(str(FIXTURES / name / file)).fingerprint == expected.fingerprint
    assert find_tokenizer(FIXTURES / name) and not find_tokenizer(FIXTURES)


def test_tokenizer_json_is_read_by_name_or_in_a_folder(folder, tmp_path):
    for name in ("byte-bpe", "wordpiece", "sentencepiece-unigram", "sentencepiece-bpe"):
        tokenizer = load_tokenizer(FIXTURES / name)
        tokenizer.save(tmp_path / "saved" / name)
        (tmp_path / "saved" / name / "tokenizer.model").unlink(missing_ok=True)
        for path in (tmp_path / "saved" / name, tmp_path / "saved" / name / "tokenizer.json"):
            again = load_tokenizer(path)
            assert again.kind == tokenizer.kind and again.encode(TEXT) == tokenizer.encode(TEXT)
            assert again.special_tokens == tokenizer.special_tokens


def test_sentencepiece_beside_a_tokenizer_json_that_numbers_differently_is_left_alone(folder, tmp_path):
    load_tokenizer(FIXTURES / "sentencepiece-bpe").save(tmp_path)
    ids = load_tokenizer(tmp_path).encode(TEXT)
    shutil.copy(FIXTURES / "sentencepiece-unigram" / "spiece.model", tmp_path / "tokenizer.model")
    again = load_tokenizer(tmp_path)
    assert again.sentencepiece_model is None and again.encode(TEXT) == ids


# Conventions and declarations.

def test_roberta_is_known_by_its_tokens(folder):
    path = folder("byte-bpe")
    vocabulary = json.loads((path / "vocab.json").read_text(encoding="utf-8"))
    count = len(vocabulary)
    edit_json(path / "vocab.json", **{"<s>": count, "</s>": count + 1, "<pad>": count + 2, "<mask>": count + 3})
    tokenizer = load_tokenizer(path)
    ids = load_tokenizer(FIXTURES / "byte-bpe").encode(TEXT)
    assert tokenizer.encode(TEXT) == [count, *ids, count + 1]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id,
            tokenizer.mask_id) == (count, count + 1, count, count + 1, count + 2, count + 3)
    edit_json(path / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    assert load_tokenizer(path).encode(TEXT) == ids


def test_gpt2_is_known_by_its_token():
    tokenizer = load_tokenizer(FIXTURES / "byte-bpe")
    assert tokenizer.bos_id == tokenizer.eos_id == tokenizer.unk_id == tokenizer.vocabulary_size - 1
    assert tokenizer.pad_id is None and tokenizer.template == ((), ())


def test_bert_is_known_by_its_tokens_and_its_case(folder):
    tokenizer = load_tokenizer(FIXTURES / "wordpiece")
    assert tokenizer.special_tokens == {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.mask_id, tokenizer.eos_id) == (0, 2, 4, None)
    assert tokenizer.encode("SHIP") == tokenizer.encode("ship")
    path = folder("wordpiece")
    with open(path / "vocab.txt", "a", encoding="utf-8") as file:
        file.write("Ship\n")  # a cased vocabulary
    cased = load_tokenizer(path)
    assert cased.encode("Ship", add_special_tokens=False) == [cased.token_to_id("Ship")] != cased.encode("ship")[1:-1]
    edit_json(path / "tokenizer_config.json", do_lower_case=True)
    assert load_tokenizer(path).encode("Ship") == tokenizer.encode("ship")


def test_t5_class_adds_the_extra_ids_that_the_model_file_lacks(folder, tmp_path):
    path = folder("sentencepiece-unigram")
    edit_json(path / "tokenizer_config.json", tokenizer_class="T5Tokenizer", extra_ids=7)
    tokenizer = load_tokenizer(path)
    assert tokenizer.vocabulary_size == 113 + 7
    assert [tokenizer.token_to_id(f"<extra_id_{index}>") for index in (6, 0)] == [113, 119]
    assert tokenizer.encode("<extra_id_0>")[-2] != 119
    assert tokenizer.encode("<extra_id_0>", recognise_special_tokens=True)[-2:] == [119, tokenizer.eos_id]
    tokenizer.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert again.vocabulary == tokenizer.vocabulary and again.fingerprint == tokenizer.fingerprint
    assert again.decode([119, 118], skip_special_tokens=False) == "<extra_id_0><extra_id_1>"


@pytest.mark.parametrize("settings, begin, end", [
    ({"tokenizer_class": "LlamaTokenizer"}, True, False),
    ({"tokenizer_class": "T5TokenizerFast", "extra_ids": 0}, False, True),
    ({"add_bos_token": True, "add_eos_token": True}, True, True), ({}, False, False)])
def test_the_declared_class_or_flags_say_what_sentencepiece_adds(folder, settings, begin, end):
    path = folder("sentencepiece-bpe")
    edit_json(path / "tokenizer_config.json", **settings)
    tokenizer = load_tokenizer(path)
    assert tokenizer.template == ((1,) * begin, (2,) * end)
    plain = tokenizer.encode("ship", add_special_tokens=False)
    assert tokenizer.encode("ship") == [1] * begin + plain + [2] * end


def test_tokens_added_after_training_keep_their_ids(folder):
    path = folder("byte-bpe")
    count = load_tokenizer(path).vocabulary_size
    edit_json(path / "tokenizer_config.json", pad_token="[PAD]",
              added_tokens_decoder={str(count): {"content": "[PAD]", "special": True}})
    tokenizer = load_tokenizer(path)
    assert tokenizer.pad_id == count and tokenizer.vocabulary_size == count + 1
    edit_json(path / "tokenizer_config.json", added_tokens_decoder={str(count + 5): {"content": "[PAD]"}})
    with pytest.raises(ValueError, match=rf"'\[PAD\]' the id {count + 5} .* it is {count}"):
        load_tokenizer(path)


# What is refused, and how.

@pytest.mark.parametrize("name, file", [
    ("byte-bpe", "vocab.json"), ("byte-bpe", "merges.txt"), ("wordpiece", "vocab.txt"),
    ("sentencepiece-bpe", "spiece.model")])
def test_empty_and_binary_files_are_named(folder, name, file):
    path = folder(name)
    (path / file).write_bytes(b"")
    with pytest.raises(ValueError, match=f"{file} is empty"):
        load_tokenizer(path)
    (path / file).write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=f"{file}.* (not UTF-8|not valid JSON|damaged)"):
        load_tokenizer(path)


def test_a_missing_path_or_half_of_a_pair_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist. A tokenizer is a folder or file with"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no tokenizer. Expected tokenizer.json"):
        load_tokenizer(tmp_path)
    path = folder("byte-bpe")
    (path / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match="merges.txt does not exist; vocab.json needs it"):
        load_tokenizer(path)


def test_pickles_and_other_files_are_not_opened(tmp_path):
    for name in ("tokenizer.pkl", "pytorch_model.bin", "notes.md"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
        with pytest.raises(ValueError, match="is not a tokenizer file"):
            load_tokenizer(tmp_path / name)


@pytest.mark.parametrize("line, words", [
    ("ship", "line 3: a merge is two pieces with a space between. Received: 'ship'"),
    ("a b c", "line 3: a merge is two pieces"),
    ("Q zz", "line 3: the merge 'Q zz' needs the piece 'zz', which vocab.json does not hold")])
def test_damaged_merges_are_named_with_their_line(folder, line, words):
    path = folder("byte-bpe")
    lines = (path / "merges.txt").read_text(encoding="utf-8").split("\n")
    lines[2] = line
    (path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        load_tokenizer(path)


def test_merges_cut_short_are_noticed(folder):
    path = folder("byte-bpe")
    lines = (path / "merges.txt").read_text(encoding="utf-8").split("\n")
    (path / "merges.txt").write_text("\n".join(lines[:31]), encoding="utf-8")
    with pytest.raises(ValueError, match="merges.txt makes none of .* pieces in vocab.json, .* cut short"):
        load_tokenizer(path)


@pytest.mark.parametrize("changes, words", [
    ({"ship": "7"}, "must map tokens to ids. Received: 'ship': '7'"), ({"ship": -7}, "'ship': -7"),
    ({"ship": True}, "'ship': True"), ({"ship": 7}, "gives the id 7 to both .* and 'ship'")])
def test_damaged_vocabularies_are_refused(folder, changes, words):
    path = folder("byte-bpe")
    edit_json(path / "vocab.json", **changes)
    with pytest.raises(ValueError, match=words):
        load_tokenizer(path)


@pytest.mark.parametrize("change, words", [
    (lambda lines: [*lines, lines[10]], "is there twice .first in line 11"),
    (lambda lines: [*lines[:7], "two words", *lines[7:]], "line 8: a WordPiece vocabulary has one token a line"),
    (lambda lines: [*lines[:7], "", *lines[7:]], "line 8: a WordPiece vocabulary"),
    (lambda lines: [line for line in lines if line != "[UNK]"], r"does not hold \[UNK\]"),
    (lambda lines: ["#version: 0.2", "a b"], "line 1.*of another kind")])
def test_damaged_wordpiece_vocabularies_are_refused(folder, change, words):
    path = folder("wordpiece") / "vocab.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        load_tokenizer(path)


def test_a_file_of_the_wrong_kind_is_refused(tmp_path):
    for source, name, words in [
            ("byte-bpe/vocab.json", "spiece.model", "not a SentencePiece model"),
            ("byte-bpe/merges.txt", "vocab.txt", "of another kind"),
            ("byte-bpe/vocab.json", "vocab.txt", "of another kind"),
            ("byte-bpe/vocab.json", "tokenizer.json", "it has no `model`"),
            ("sentencepiece-bpe/spiece.model", "vocab.txt", "not UTF-8"),
            ("wordpiece/vocab.txt", "tokenizer.json", "not valid JSON")]:
        folder = tmp_path / source.replace("/", "-") / name.replace(".", "-")
        folder.mkdir(parents=True)
        shutil.copy(FIXTURES / source, folder / name)
        with pytest.raises(ValueError, match=words):
            load_tokenizer(folder)


def test_truncated_sentencepiece_models_are_refused(folder):
    path = folder("sentencepiece-unigram") / "spiece.model"
    data = path.read_bytes()
    for length in range(1, len(data), 97):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="spiece.model is not a SentencePiece model, or it is damaged"):
            load_tokenizer(path)


@pytest.mark.parametrize("change, words", [
    (lambda parts: parts["model"].update(merges=[["zz", "q"]]), "cannot be read as a tokenizer .*out of vocabulary"),
    (lambda parts: parts.update(model=None), "it has no `model`"),
    (lambda parts: parts.update(decoder={"type": "Nonsense"}), "cannot be read as a tokenizer"),
    (lambda parts: parts["model"].update(type="WordLevel"), "of type 'WordLevel' that is none of"),
    (lambda parts: parts.update(pre_tokenizer={"type": "Whitespace"}, decoder=None), "of type 'BPE' that is none of"),
    (lambda parts: parts["model"].update(unk_token="Ω"), "does not hold its unknown token 'Ω'")])
def test_damaged_tokenizer_json_is_refused(tmp_path, change, words):
    load_tokenizer(FIXTURES / "byte-bpe").save(tmp_path)
    path = tmp_path / "tokenizer.json"
    parts = json.loads(path.read_text(encoding="utf-8"))
    change(parts)
    path.write_text(json.dumps(parts), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        load_tokenizer(tmp_path)


def test_several_models_in_a_folder_need_a_choice(folder):
    path = folder("sentencepiece-bpe")
    (path / "spiece.model").rename(path / "source.model")
    shutil.copy(path / "source.model", path / "target.model")
    with pytest.raises(ValueError, match="several SentencePiece models .source.model, target.model.. Pass"):
        load_tokenizer(path)
    assert load_tokenizer(path / "target.model").kind == "sentencepiece"


@pytest.mark.parametrize("depth", [100, 400, 10**6])
def test_a_tokenizer_json_that_is_nested_without_end_is_refused(tmp_path, depth):
    (tmp_path / "tokenizer.json").write_text(
        '{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "normalizer": '
        + '{"type": "Sequence", "normalizers": [' * depth + "]}" * depth + "}")
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)

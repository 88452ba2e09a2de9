"""OPUS-MT's tokenizer: ids and texts as transformers gives them, its files, and what is wrong with them."""
import json
import pathlib
import shutil

import numpy as np
import pytest

import kzoo
from kzoo.models.transformer import TransformerConfig
from kzoo.tokenizers import find_tokenizer, load_tokenizer
from kzoo.training.options import TrainOptions
from kzoo.training.row_encoders import TextPairs
from kzoo.training.row_files import Place
from kzoo.training.tables import TextPair

FOLDER = pathlib.Path(__file__).parent / "fixtures" / "tokenizers" / "marian"  # made by make_marian_tokenizer.py
ROWS = [json.loads(line) for line in (FOLDER / "expected.jsonl").read_text(encoding="utf-8").splitlines()]
TEXTS = [row["text"] for row in ROWS]
SIZES = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 11}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(FOLDER)


def of(tokenizer):
    return {"source": tokenizer, "target": tokenizer.targets}


@pytest.mark.parametrize("side", ["source", "target"])
def test_ids_are_those_of_transformers(tokenizer, side):
    expected = [row[side] for row in ROWS]
    assert of(tokenizer)[side].encode_batch(TEXTS) == expected
    assert [of(tokenizer)[side].encode(text) for text in TEXTS] == expected
    assert of(tokenizer)[side].encode_batch(TEXTS, add_special_tokens=False) == [ids[:-1] for ids in expected]
    other = {"source": "target", "target": "source"}[side]
    assert of(tokenizer)[other].encode_batch(TEXTS) != expected


@pytest.mark.parametrize("side", ["source", "target"])
def test_texts_are_those_of_transformers(tokenizer, side):
    for row in ROWS:
        for each in of(tokenizer).values():
            assert each.decode(row[side]) == row[f"{side} decoded"]
    for row in ROWS:
        assert tokenizer.decode(row["source"], skip_special_tokens=False) == row["named"]


def test_what_it_says_of_itself(tokenizer):
    assert (tokenizer.kind, tokenizer.eos_id, tokenizer.unk_id, tokenizer.bos_id) == ("marian", 0, 1, None)
    assert tokenizer.pad_id == tokenizer.vocabulary_size - 1 == tokenizer.token_to_id("<pad>")
    assert tokenizer.template == ((), (0,)) and tokenizer.targets.targets is tokenizer.targets
    assert tokenizer.fingerprint != tokenizer.targets.fingerprint
    with pytest.raises(ValueError, match="has no form of the `tokenizers` library"):
        tokenizer.encode_with_offsets("The ships")
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        tokenizer.encode("a\ud800")


def test_the_names_of_special_tokens_are_text_unless_asked_for(tokenizer):
    plain, meant = (tokenizer.encode("The</s> keeper", recognise_special_tokens=each) for each in (False, True))
    assert plain.count(tokenizer.eos_id) == 1 and meant.count(tokenizer.eos_id) == 2
    assert meant == [*tokenizer.encode("The"), *tokenizer.encode(" keeper")]


def test_it_is_saved_as_it_was(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "source.spm", "target.spm", "tokenizer_config.json", "vocab.json"]
    assert find_tokenizer(tmp_path) and load_tokenizer(tmp_path / "source.spm").kind == "marian"
    again = load_tokenizer(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint and again.settings == tokenizer.settings == {
        "source_lang": "eng", "target_lang": "fra"}
    for name in ("source.spm", "target.spm"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


def test_two_languages_may_have_two_tables(tokenizer, tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "marian")
    config = {**json.loads((folder / "tokenizer_config.json").read_text()), "separate_vocabs": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    backwards = dict(zip(reversed(tokenizer.vocabulary), tokenizer.vocabulary.values(), strict=True))
    (folder / "target_vocab.json").write_text(json.dumps(backwards))
    found = load_tokenizer(folder)
    last = tokenizer.vocabulary_size - 1
    for row in ROWS:
        assert found.encode(row["text"]) == row["source"]
        assert found.targets.encode(row["text"]) == [last - index for index in row["target"]]
        assert found.decode([last - index for index in row["target"]]) == row["target decoded"]
    found.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").fingerprint == found.fingerprint


@pytest.mark.parametrize("form", ["kzoo", "hugging_face"])
def test_it_travels_with_a_translator(tokenizer, tmp_path, form):
    model = kzoo.create("marian-base", "translation", tokenizer, vocabulary_size=tokenizer.vocabulary_size, **SIZES)
    assert (model.config.pad_id, model.config.decoder_start_id) == (tokenizer.pad_id, tokenizer.pad_id)
    kzoo.save(model, tmp_path / "model", format=form)
    loaded = kzoo.load(tmp_path / "model")
    assert loaded.tokenizer.fingerprint == tokenizer.fingerprint
    texts = [">>fra<< The keeper counts.", "The ships"]
    assert loaded(texts, max_new_tokens=5) == model(texts, max_new_tokens=5)
    ids = model.generate(tokenizer.encode_batch(texts), max_new_tokens=5)
    assert loaded(texts, max_new_tokens=5) == [tokenizer.decode(each) for each in ids]


def test_targets_are_trained_as_targets(tokenizer):
    config = TransformerConfig(vocabulary_size=tokenizer.vocabulary_size, eos_id=0, pad_id=tokenizer.pad_id,
                               decoder_start_id=tokenizer.pad_id)
    made = TextPairs(tokenizer, TrainOptions(), config, 200)
    (_, (row,), _), = made.encode([TextPair(TEXTS[0], TEXTS[0], (TEXTS[0],), Place("a.tsv", 1))])
    assert (row["source"], row["target"]) == (ROWS[0]["source"], ROWS[0]["target"])


def drop(name):
    return lambda folder: (folder / name).unlink()


def change(name, edit):
    def apply(folder):
        values = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps(edit(values)), encoding="utf-8")
    return apply


def without(*tokens):
    return lambda values: {token: number for number, token in enumerate(each for each in values if each not in tokens)}


@pytest.mark.parametrize("spoil, error, words", [
    (drop("target.spm"), FileNotFoundError, "target.spm does not exist. The tokenizer of a Marian folder"),
    (drop("source.spm"), FileNotFoundError, "source.spm does not exist"),
    (drop("vocab.json"), FileNotFoundError, "vocab.json does not exist"),
    (change("tokenizer_config.json", lambda values: {"separate_vocabs": True}), FileNotFoundError, "target_vocab.json"),
    (change("vocab.json", lambda values: {**values, "more": 999}), ValueError, "from 0 without a gap"),
    (change("vocab.json", lambda values: {**values, "more": 3}), ValueError, "gives the id 3 to both"),
    (change("vocab.json", without("<unk>")), ValueError, "has no unk token in vocab.json"),
    (change("vocab.json", without("</s>")), ValueError, "has no eos token in vocab.json"),
    (lambda folder: (folder / "source.spm").write_bytes(b"no model"), ValueError, "source.spm is not a SentencePiece"),
])
def test_damage_is_told(tmp_path, spoil, error, words):
    folder = shutil.copytree(FOLDER, tmp_path / "marian")
    spoil(folder)
    with pytest.raises(error, match=words):
        load_tokenizer(folder)


def test_generation_does_not_depend_on_who_reads_the_ids(tokenizer):
    """What a target has of its own, such as an unknown run, comes back as the text that it stands for."""
    ids = np.array(tokenizer.encode("ûß"))
    assert tokenizer.decode(ids) == "ûß" and tokenizer.targets.decode(ids) == "ûß"

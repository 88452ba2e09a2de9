"""tokenizer_config.json and its companions: read, checked, preferred over conventions."""
import json
import pathlib
import shutil

import pytest

from kzoo import tokenizer_settings
from kzoo.tokenizers import load_tokenizer

FIXTURES = pathlib.Path(__file__).parent / "fixtures" / "tokenizers"


def write(folder, name, value):
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def test_the_config_overrules_the_map_and_tokens_may_be_dicts(tmp_path):
    pad = {"content": "<pad>", "lstrip": False}
    write(tmp_path, "special_tokens_map.json", {"eos_token": "</s>", "pad_token": pad})
    write(tmp_path, "tokenizer_config.json", {"eos_token": {"content": "<end>"}})
    settings = tokenizer_settings.read(tmp_path)
    assert (settings["eos_token"], settings["pad_token"]) == ("<end>", "<pad>")
    assert tokenizer_settings.read(tmp_path / "nothing here") == {}


def test_added_tokens_are_read_from_the_older_file(tmp_path):
    write(tmp_path, "added_tokens.json", {"<new>": 17})
    assert tokenizer_settings.read(tmp_path)["added_tokens_decoder"] == {"17": {"content": "<new>", "special": True}}


def test_roles_are_what_is_declared_then_what_is_usual(tmp_path):
    vocabulary = {"<s>", "</s>", "<|endoftext|>", "<end>", "[MASK]"}
    def roles(settings):
        return tokenizer_settings.roles(settings, vocabulary, vocabulary, tmp_path)
    assert roles({}) == {"bos": "<s>", "eos": "</s>", "unk": "<|endoftext|>", "mask": "[MASK]"}
    assert roles({"eos_token": "<end>"})["eos"] == "<end>"
    assert "eos" not in roles({"eos_token": None})
    with pytest.raises(ValueError, match="declares '<gone>' as `pad_token` .* the vocabulary does not hold it"):
        roles({"pad_token": "<gone>"})


@pytest.mark.parametrize("settings, words", [
    ({"eos_token": 5}, "`eos_token` must be a token"), ({"pad_token": ["<pad>"]}, "`pad_token` must be a token"),
    ({"additional_special_tokens": [5]}, "`additional_special_tokens` must be a list of tokens"),
    ({"added_tokens_decoder": {"x": {"content": "a"}}}, "`added_tokens_decoder` must"),
    ({"added_tokens_decoder": {"5": "a"}}, "`added_tokens_decoder` must"),
    ({"tokenizer_class": 5}, "`tokenizer_class` must be a str"), ({"extra_ids": -1}, "`extra_ids` must"),
    ({"do_lower_case": "yes"}, "`do_lower_case` must be true, false or null. Received: 'yes'")])
def test_entries_of_another_form_are_named(tmp_path, settings, words):
    shutil.copy(FIXTURES / "wordpiece" / "vocab.txt", tmp_path)
    write(tmp_path, "tokenizer_config.json", settings)
    with pytest.raises(ValueError, match=f"tokenizer_config.json: {words}"):
        load_tokenizer(tmp_path)


def test_whether_special_tokens_are_recognised_is_declared_or_goes_by_kind():
    assert tokenizer_settings.common({}, "wordpiece")["recognises_special_tokens"] is True
    assert tokenizer_settings.common({}, "byte-bpe")["recognises_special_tokens"] is False
    for split in (True, False):
        settings = {"split_special_tokens": split}
        assert tokenizer_settings.common(settings, "wordpiece")["recognises_special_tokens"] is not split


def test_settings_of_the_client_are_kept(tmp_path):
    shutil.copy(FIXTURES / "wordpiece" / "vocab.txt", tmp_path)
    write(tmp_path, "tokenizer_config.json", {"model_max_length": 509, "tokenizer_class": "BertTokenizer",
                                              "auto_map": {"AutoTokenizer": "hostile.py"}})
    load_tokenizer(tmp_path).save(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert saved["model_max_length"] == 509 and "auto_map" not in saved
    assert saved["tokenizer_class"] == "PreTrainedTokenizerFast" and saved["do_lower_case"] is True

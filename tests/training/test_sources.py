"""Where models and tokenizers come from: what is refused before any work, and seeds."""
import random

import keras
import numpy as np
import pytest

import kzoo
from kzoo.tokenizers import train_tokenizer
from kzoo.training import sources, text_files
from kzoo.training.data_files import open_data
from kzoo.training.sources import ModelSource, TokenizerSource, saved_labels, seeded

TASK = "text-generation"
TINY = {"num_layers": "1", "num_heads": 2, "hidden_dim": 6, "dropout": "0.3"}


@pytest.fixture
def tokenizer():
    return train_tokenizer("character", ["abcde"])


def weights(model):
    return [keras.ops.convert_to_numpy(variable) for variable in model.weights]


def test_a_preset_takes_its_sizes_from_tokenizer_and_window(tokenizer):
    source = ModelSource("gpt2-nano", TASK, TINY, None)
    config = source.size(tokenizer, 7)
    assert (config.vocabulary_size, config.max_sequence_length, config.num_layers) == (tokenizer.vocabulary_size, 7, 1)
    model = source.make(tokenizer, 3)
    assert model.tokenizer is tokenizer and model.config == config


def test_overrides_win(tokenizer):
    source = ModelSource("gpt2-nano", TASK, {**TINY, "vocabulary_size": 31, "max_sequence_length": 11}, None)
    config = source.size(tokenizer, 7)
    assert (config.vocabulary_size, config.max_sequence_length) == (31, 11)
    with pytest.raises(ValueError, match=r"`sequence_length` \(13\) must be at most"):
        source.size(tokenizer, 13)
    with pytest.raises(ValueError, match="The tokenizer has 6 tokens"):
        ModelSource("gpt2-nano", TASK, {"vocabulary_size": 5}, None).size(tokenizer, 7)


def test_the_seed_decides_the_weights(tokenizer):
    made = []
    for seed in (3, 3, 5):
        source = ModelSource("gpt2-nano", TASK, TINY, None)
        source.size(tokenizer, 7)
        made.append(weights(source.make(tokenizer, seed)))
    assert all(np.array_equal(a, b) for a, b in zip(made[0], made[1], strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(made[0], made[2], strict=True))


def test_the_callers_random_state_comes_back():
    random.seed(7)
    expected = random.random()
    random.seed(7)
    with seeded(99):
        random.random()
    assert random.random() == expected


def test_half_precision_keeps_float32_weights(tokenizer):
    source = ModelSource("gpt2-nano", TASK, TINY, "bfloat16")
    source.size(tokenizer, 7)
    model = source.make(tokenizer, 3)
    assert model.compute_dtype == "bfloat16"
    assert {str(variable.dtype) for variable in model.trainable_variables} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("arguments, error, words", [
    (("gpt2-nan", TASK, None, None), ValueError, "Did you mean 'gpt2-nano'"),
    (("gpt2-nano", TASK, {"num_layer": 1}, None), ValueError, "Did you mean 'num_layers'"),
    (("gpt2-nano", TASK, {"num_layers": 1.5}, None), TypeError, "`num_layers`"),
    (("gpt2-nano", TASK, {"hidden_dim": "130"}, None), ValueError, "divisible by `num_heads`"),
    ((7, TASK, None, None), TypeError, "preset, a folder, or a kzoo model"),
])
def test_bad_models_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        ModelSource(*arguments)


def test_a_model_that_is_there_is_used_as_it_is(tmp_path, tokenizer):
    model = kzoo.create("gpt2-nano", tokenizer=tokenizer, num_layers=1, num_heads=2, hidden_dim=6)
    assert ModelSource(model, TASK, None, None).make(tokenizer, 3) is model
    with pytest.raises(ValueError, match="`overrides` change the config of a preset or a folder"):
        ModelSource(model, TASK, {"dropout": 0.1}, None)
    with pytest.raises(ValueError, match="dtype='mixed_float16'"):
        ModelSource(model, TASK, None, "float16")
    kzoo.save(model, tmp_path / "saved")
    source = ModelSource(tmp_path / "saved", TASK, None, "bfloat16")
    source.open(None, seed=3)
    assert source.tokenizer.fingerprint == tokenizer.fingerprint
    loaded = source.make(tokenizer, 3)
    assert loaded.compute_dtype == "bfloat16" and loaded.config == model.config
    assert all(np.array_equal(a, b) for a, b in zip(weights(loaded), weights(model), strict=True))


def test_a_folder_is_given_another_config(tmp_path, tokenizer):
    model = kzoo.create("gpt2-nano", tokenizer=tokenizer, num_layers=1, num_heads=2, hidden_dim=6)
    kzoo.save(model, tmp_path / "saved")
    source = ModelSource(tmp_path / "saved", TASK, {"dropout": "0.3", "gradient_checkpointing": "true"}, None)
    source.open(None, seed=3)
    assert source.config == model.config.replace(dropout=0.3, gradient_checkpointing=True) != model.config
    assert all(np.array_equal(a, b) for a, b in zip(weights(source.make(tokenizer, 3)), weights(model), strict=True))
    with pytest.raises(ValueError, match="Did you mean 'dropout'"):
        ModelSource(tmp_path / "saved", TASK, {"dropuot": "0.3"}, None)


def test_a_folder_tells_the_labels_of_its_head(tmp_path):
    sizes = {**TINY, "num_layers": 1, "dropout": 0.0, "intermediate_dim": 7, "vocabulary_size": 11}
    model = kzoo.create("bert-tiny", "text-classification", labels=("no", "yes", "perhaps"), **sizes)
    for format in ("kzoo", "hugging_face"):
        kzoo.save(model, tmp_path / format, format=format)
        assert saved_labels(tmp_path / format, "text-classification") == ("no", "yes", "perhaps")
        assert saved_labels(tmp_path / format, "token-classification") is None
        source = ModelSource(tmp_path / format, "text-classification", None, None)
        source.open(("no", "yes"), seed=3)
        assert source.labels == ("no", "yes", "perhaps") and source.make(None, 3).newly_initialized == ()
    assert saved_labels(tmp_path, "text-classification") is None
    other = ModelSource(model, "text-classification", None, None)
    other.open(("yes", "maybe"), seed=3)
    assert other.labels == ("no", "yes", "perhaps")  # the data is then refused, by the label it does not know


def test_which_tokenizer(tmp_path, tokenizer):
    class Bare:
        tokenizer, task = None, TASK

    class Trained(Bare):
        pass

    Trained.tokenizer = tokenizer
    assert TokenizerSource.read(None, None, Bare) == TokenizerSource("byte-bpe", None)
    Bare.task = "translation"
    assert TokenizerSource.read(None, None, Bare) == TokenizerSource("sentencepiece", None)
    Bare.task = "fill-mask"
    assert TokenizerSource.read(None, None, Bare) == TokenizerSource("wordpiece", None)
    assert TokenizerSource.read(None, None, Trained).tokenizer is tokenizer
    assert TokenizerSource.read("character", None, Trained).kind == "character"
    tokenizer.save(tmp_path)
    assert TokenizerSource.read(tmp_path, None, Bare).identity() == {"fingerprint": tokenizer.fingerprint}
    with pytest.raises(FileNotFoundError, match="neither a file or folder nor one of: character"):
        TokenizerSource.read("charcter", None, Bare)
    with pytest.raises(ValueError, match="this one has its vocabulary"):
        TokenizerSource.read(tmp_path, 300, Bare)
    with pytest.raises(ValueError, match="at least 2"):
        TokenizerSource.read("byte-bpe", 1, Bare)


def test_characters_are_all_known_other_tokenizers_learn_from_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PIECE_SIZE", 10)
    monkeypatch.setattr(sources, "SAMPLE", 53)
    path = tmp_path / "data.txt"
    path.write_text("ab ab abz\ncd cd cde\n" * 5)  # 100 characters: every second piece is read
    text = open_data(TASK, path)
    assert TokenizerSource("character").make(text).token_to_id("e") is not None
    made = TokenizerSource("byte-bpe", 300).make(text)
    assert made.token_to_id("ab") is not None and made.token_to_id("cd") is None
    monkeypatch.setattr(sources, "SAMPLE", 100)
    assert TokenizerSource("byte-bpe", 300).make(text).token_to_id("cd") is not None

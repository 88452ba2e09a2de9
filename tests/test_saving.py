"""Making, saving and loading models."""
import json
import os
import warnings

import numpy as np
import pytest
from keras import ops

import kzoo
import kzoo.saving
from kzoo.checkpoint import variables_by_path
from kzoo.tokenizers import train_tokenizer

SIZES = dict(vocabulary_size=29, num_layers=1, num_heads=2, hidden_dim=6, max_sequence_length=11, dropout=0.0)


@pytest.fixture(scope="module")
def model():
    return kzoo.create("gpt2-nano", **SIZES)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("character", ["abcdefghij"])


@pytest.fixture()
def run(model, tmp_path):
    kzoo.save(model, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(params=["kzoo", "hugging_face"])
def format(request):
    return request.param


def logits(model):
    return ops.convert_to_numpy(model({"token_ids": np.arange(14, dtype="int32").reshape(2, 7)}))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# create

def test_presets_with_changes(model):
    assert model.config == kzoo.create("gpt2-nano").config.replace(**SIZES)
    assert (model.task, model.family.name, model.tokenizer, model.built) == ("text-generation", "gpt2", None, True)
    assert kzoo.create("gpt2-nano", task="text-generation", dtype="mixed_bfloat16", **SIZES).compute_dtype == "bfloat16"


@pytest.mark.parametrize("name, options, error, words", [
    ("gpt2-smal", {}, ValueError, "Unknown preset 'gpt2-smal'. Did you mean 'gpt2-small'?.*gpt2-xl"),
    ("gpt2-nano", {"task": "text-generating"}, ValueError, "Unknown task 'text-generating'. Did you mean 'text-gen"),
    ("gpt2-nano", {"hiden_dim": 8}, ValueError, "Unknown GPT2Config field 'hiden_dim'. Did you mean 'hidden_dim'?"),
    ("gpt2-nano", {"hidden_dim": "8"}, TypeError, "`hidden_dim` of GPT2Config must be int. Received: '8'"),
    ("gpt2-nano", {"hidden_dim": 130}, ValueError, "`hidden_dim` of GPT2Config must be divisible by `num_heads`"),
])
def test_what_does_not_exist_or_fit_is_refused(name, options, error, words):
    with pytest.raises(error, match=words):
        kzoo.create(name, **options)


def test_a_tokenizer_with_more_tokens_than_the_embedding_is_refused(tokenizer):
    size = tokenizer.vocabulary_size
    with pytest.raises(ValueError, match=f"The tokenizer has {size} tokens, the model's embedding {size - 1} rows"):
        kzoo.create("gpt2-nano", tokenizer=tokenizer, vocabulary_size=size - 1)


# save

def test_a_run_holds_config_and_weights(run, model):
    assert sorted(contents(run)) == ["config.json", "model.safetensors"]
    assert json.loads((run / "config.json").read_text()) == {"kzoo": {
        "format": 1, "family": "gpt2", "task": "text-generation", "config": model.config.to_dict()}}
    again = kzoo.load(run)
    assert again.config == model.config
    np.testing.assert_array_equal(logits(again), logits(model))


@pytest.mark.parametrize("format", ["kzoo", "hugging_face"])
def test_the_tokenizer_travels(tokenizer, tmp_path, format):
    model = kzoo.create("gpt2-nano", **SIZES, tokenizer=tokenizer)
    kzoo.save(model, tmp_path / "run", format=format)
    again = kzoo.load(tmp_path / "run")
    assert again.tokenizer.encode("abacad") == tokenizer.encode("abacad")
    assert again.generate("abc", max_new_tokens=3) == model.generate("abc", max_new_tokens=3)
    if format == "hugging_face":
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        assert (config["eos_token_id"], config["bos_token_id"]) == (tokenizer.eos_id, tokenizer.bos_id)


def test_an_existing_folder_is_refused(run, model):
    before = contents(run)
    with pytest.raises(FileExistsError, match="run already exists. Choose another folder, or pass overwrite=True"):
        kzoo.save(model, run)
    assert contents(run) == before


def test_overwriting_replaces_all(run, tmp_path):
    (run / "notes.txt").write_text("of the old model")
    other = kzoo.create("gpt2-nano", **SIZES)
    kzoo.save(other, run, overwrite=True)
    assert sorted(contents(run)) == ["config.json", "model.safetensors"]
    np.testing.assert_array_equal(logits(kzoo.load(run)), logits(other))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("failing", ["save_weights", "write_json", "tokenizer"])
def test_a_failure_keeps_the_old_and_leaves_nothing_new(run, tmp_path, monkeypatch, failing):
    class NoTokenizer:
        bos_id = eos_id = pad_id = sep_id = None
        vocabulary_size = 3

        def save(self, folder):
            raise OSError("disk full")

    def fail(*arguments, **options):
        raise OSError("disk full")

    other = kzoo.create("gpt2-nano", **SIZES, tokenizer=NoTokenizer() if failing == "tokenizer" else None)
    if failing != "tokenizer":
        monkeypatch.setattr(kzoo.saving, failing, fail)
    before = contents(run)
    for target, overwrite in ((run, True), (tmp_path / "new", False)):
        with pytest.raises(OSError, match="disk full"):
            kzoo.save(other, target, overwrite=overwrite)
    assert contents(run) == before and [path.name for path in tmp_path.iterdir()] == ["run"]


def test_other_objects_and_formats_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="Unknown format 'huggingface'. Did you mean 'hugging_face'?"):
        kzoo.save(model, tmp_path / "run", format="huggingface")
    with pytest.raises(TypeError, match="`model` must be a task model, as `kzoo.create` makes. Received: GPT2Backbone"):
        kzoo.save(model.backbone, tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom file modes bind")
def test_a_folder_that_may_not_be_written(model, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="no permission to write"):
        kzoo.save(model, tmp_path / "run")


# load

def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder. Give a kzoo run or a Hugging Face"):
        kzoo.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no config.json: it is neither a kzoo run nor"):
        kzoo.load(tmp_path)
    (tmp_path / "config.json").write_text('{"kzoo": ')
    with pytest.raises(ValueError, match="config.json is not valid JSON"):
        kzoo.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(FileNotFoundError, match="holds no weights: expected model.safetensors"):
        kzoo.load(tmp_path)


def edit(run, change):
    path = run / "config.json"
    values = json.loads(path.read_text())
    change(values["kzoo"])
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("change, words", [
    (lambda values: values.update(format=2), "it is of another format version than 1"),
    (lambda values: values.pop("config"), "it lacks 'config'"),
    (lambda values: values.pop("task"), "it lacks 'task'"),
    (lambda values: values.update(family="gpt"), "Unknown family 'gpt'. Did you mean 'gpt2'"),
    (lambda values: values.update(family=["gpt2"]), "`family` must be a text. Received: .'gpt2'."),
    (lambda values: values.update(task="chess"), "Unknown task 'chess'. Choose one of: "),
    (lambda values: values.update(task={}), "`task` must be a text. Received: {}"),
    (lambda values: values.update(config=[]), "GPT2Config is made from a dict of its fields"),
    (lambda values: values["config"].update(layers=3), "Unknown GPT2Config field 'layers'"),
    (lambda values: values["config"].update(dropout="none"), "`dropout` of GPT2Config must be float"),
    (lambda values: values["config"].update(num_heads=5), "`hidden_dim` of GPT2Config must be divisible"),
    (lambda values: values["config"].update(vocabulary_size=10 ** 12), "asks for 1000000000000 as `vocabulary_size`"),
    (lambda values: values["config"].update(num_layers=2), "lacks the tensor 'gpt2/block_1/"),
    (lambda values: values["config"].update(position="alibi"), "no place for: 'gpt2/position_embedding/embeddings'"),
])
def test_a_config_that_does_not_fit_is_refused(run, change, words):
    edit(run, change)
    with pytest.raises(ValueError, match=words) as caught:
        kzoo.load(run)
    assert str(run) in str(caught.value) and "\n" not in str(caught.value)


def test_the_kzoo_entry_must_be_an_object(run):
    (run / "config.json").write_text('{"kzoo": 3}')
    with pytest.raises(ValueError, match="config.json: it is of another format version"):
        kzoo.load(run)


def test_a_task_the_family_cannot_serve_is_refused(run):
    with pytest.raises(ValueError, match="Unknown task 'chess'|cannot serve the task 'chess'"):
        kzoo.load(run, task="chess")
    assert kzoo.load(run, task="text-generation").task == "text-generation"


def test_precision_is_chosen_when_loading(run, model):
    half = kzoo.load(run, dtype="mixed_bfloat16")
    assert half.compute_dtype == "bfloat16" and half.variable_dtype == "float32"
    difference = np.abs(logits(half) - logits(model))
    assert 0 < difference.max() < 0.1


def test_fields_of_the_config_are_chosen_when_loading(model, tmp_path, format):
    kzoo.save(model, tmp_path / "model", format=format)
    loaded = kzoo.load(tmp_path / "model", dropout=0.3, pattern="blockwise")
    assert loaded.config == model.config.replace(dropout=0.3, pattern="blockwise")
    np.testing.assert_allclose(logits(loaded), logits(model), atol=1e-5)  # the same attention
    local = kzoo.load(tmp_path / "model", pattern={"name": "block_local", "block_size": 2})
    assert np.abs(logits(local) - logits(model)).max() > 1e-4


@pytest.mark.parametrize("overrides, error, words", [
    ({"hidden_dim": 8}, ValueError, "the config asks for 8 as `hidden_dim`, and no stored tensor"),
    ({"num_layers": 40}, ValueError, "the config says there are 40 layers, and there are only"),
    ({"head_dim": 3}, ValueError, "Unknown setting of the task 'text-generation' or field of its config 'head_dim'"),
    ({"dropout": "0.3"}, TypeError, "`dropout` of GPT2Config must be float. Received: '0.3'"),
    ({"num_heads": 4}, ValueError, "`hidden_dim` of GPT2Config must be divisible by `num_heads`"),
])
def test_fields_that_the_weights_do_not_fit_are_refused(run, overrides, error, words):
    with pytest.raises(error, match=words):
        kzoo.load(run, **overrides)


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match="pytorch_model.bin is a pickle"):
        kzoo.load(tmp_path)


# heads

ENCODER = dict(vocabulary_size=29, num_layers=1, num_heads=2, hidden_dim=6, intermediate_dim=9, max_sequence_length=11)


def encoder(task, **changes):
    model = kzoo.create("bert-tiny", task=task, **{**ENCODER, **changes})
    draw = np.random.default_rng(len(task))
    model.set_weights([draw.normal(0, 0.3, weight.shape) for weight in model.weights])
    return model


def arrays(model):
    return {path: ops.convert_to_numpy(variable) for path, variable in variables_by_path(model).items()}


def load_with_new_head(folder, expected, **options):
    """The model, after a warning that names exactly the variables that the folder has no weights for."""
    with pytest.warns(UserWarning, match="the head of '.*' is newly initialised. Train the model before its") as caught:
        model = kzoo.load(folder, **options)
    assert model.newly_initialized == expected and ", ".join(expected) in str(caught[0].message)
    return model


def test_a_masked_lm_becomes_a_classifier_whose_head_is_new(tmp_path, format):
    masked = encoder("fill-mask")
    kzoo.save(masked, tmp_path / "run", format=format)
    head = ("classifier/bias", "classifier/kernel", "pooler/bias", "pooler/kernel")
    model = load_with_new_head(tmp_path / "run", head, task="text-classification", labels=("a", "b"))
    ours, theirs = arrays(model), arrays(masked)
    assert set(ours) - set(theirs) == set(head)
    for path in set(ours) & set(theirs):
        np.testing.assert_array_equal(ours[path], theirs[path], err_msg=path)
    # What was trained is no longer new: saved and loaded again, nobody is warned.
    kzoo.save(model, tmp_path / "trained", format=format)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = kzoo.load(tmp_path / "trained")
    assert (again.task, again.labels, again.newly_initialized) == ("text-classification", ("a", "b"), ())
    np.testing.assert_array_equal(arrays(again)["classifier/kernel"], ours["classifier/kernel"])


def test_another_number_of_labels_makes_the_last_layer_new(tmp_path, format):
    kzoo.save(encoder("text-classification", labels=("a", "b")), tmp_path / "run", format=format)
    model = load_with_new_head(tmp_path / "run", ("classifier/bias", "classifier/kernel"), labels=("a", "b", "c"))
    saved = kzoo.load(tmp_path / "run")
    np.testing.assert_array_equal(arrays(model)["pooler/kernel"], arrays(saved)["pooler/kernel"])
    assert saved.newly_initialized == () and saved.labels == ("a", "b")
    assert kzoo.load(tmp_path / "run", labels=("no", "yes")).newly_initialized == ()  # other names for the same classes


@pytest.mark.parametrize("saved, wanted, head", [
    ("text-classification", "token-classification", ("tag_classifier/bias", "tag_classifier/kernel")),
    ("token-classification", "text-classification", ("classifier/bias", "classifier/kernel", "pooler/bias",
                                                     "pooler/kernel")),
])
def test_a_classifier_of_texts_is_none_of_tokens(tmp_path, format, saved, wanted, head):
    """In Hugging Face's files both are called classifier.weight, and here they have the same shape."""
    labels = ("a", "b")
    source = encoder(saved, labels=labels)
    kzoo.save(source, tmp_path / "run", format=format)
    model = load_with_new_head(tmp_path / "run", head, task=wanted, labels=labels)
    kernels = [next(array for path, array in arrays(each).items() if path.endswith("classifier/kernel"))
               for each in (source, model)]
    assert kernels[0].shape == kernels[1].shape and not np.array_equal(*kernels)


def test_settings_that_a_task_does_not_have_are_refused(tmp_path):
    kzoo.save(encoder("fill-mask"), tmp_path / "run")
    with pytest.raises(ValueError, match="Unknown setting of the task 'fill-mask' or field of its config 'labels'"):
        kzoo.load(tmp_path / "run", labels=("a", "b"))
    with pytest.raises(ValueError, match="'text-classification' or field .* 'label'. Did you mean 'labels'"):
        kzoo.load(tmp_path / "run", task="text-classification", label=("a", "b"))
    with pytest.raises(ValueError, match="Family 'bert' cannot serve the task 'translation'. It can: fill-mask"):
        kzoo.load(tmp_path / "run", task="translation")
    with pytest.raises(TypeError, match="`labels` must name the classes"):
        kzoo.load(tmp_path / "run", task="text-classification")


def test_labels_that_are_not_numbered_are_refused(tmp_path):
    kzoo.save(encoder("text-classification", labels=("a", "b")), tmp_path / "run", format="hugging_face")
    path = tmp_path / "run" / "config.json"
    values = json.loads(path.read_text())
    assert values["id2label"] == {"0": "a", "1": "b"} and values["label2id"] == {"a": 0, "b": 1}
    for labels in ({"0": "a", "2": "b"}, ["a", "b"], {"x": "a"}):
        path.write_text(json.dumps({**values, "id2label": labels}))
        with pytest.raises(ValueError, match="`id2label` must number the labels from 0"):
            kzoo.load(tmp_path / "run")

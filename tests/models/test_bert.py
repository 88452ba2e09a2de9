"""BERT, RoBERTa and DistilBERT: their config, their sizes, and equality with the reference implementations.

The folders in fixtures/bert were made by fixtures/make_bert.py: transformers' classes with every parameter drawn anew
from N(0, 0.3), computed in float64.
"""
import json
import pathlib
import shutil
import warnings

import keras
import numpy as np
import pytest
import safetensors.numpy
from keras import ops

import kzoo
from kzoo.backend import compile_function, differentiate
from kzoo.checkpoint import variables_by_path
from kzoo.hugging_face import layout_of
from kzoo.layers.feed_forward import FeedForward
from kzoo.layers.part_names import part_name
from kzoo.layers.pooling import first_token
from kzoo.models.bert import PRESETS, BertBackbone, BertConfig
from kzoo.tasks.task import build_task

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "bert"
KINDS = ("bert", "roberta", "distilbert")
TASKS = ("fill-mask", "text-classification", "token-classification", "question-answering", "feature-extraction")
TINY = dict(vocabulary_size=29, num_layers=2, num_heads=4, hidden_dim=24, intermediate_dim=37, max_sequence_length=19)
IDS = np.full((1, 5), 3, "int32")


# The config.

@pytest.mark.parametrize("field, value, words", [
    ("num_heads", 5, "`hidden_dim` of BertConfig must be divisible by `num_heads` .5.. Received: 24"),
    ("vocabulary_size", 0, "`vocabulary_size` of BertConfig must be at least 1. Received: 0"),
    ("intermediate_dim", 0, "`intermediate_dim`.*at least 1"),
    ("max_sequence_length", 0, "`max_sequence_length`.*at least 1"),
    ("num_segments", -1, "`num_segments`.*at least 0"),
    ("position_offset", -1, "`position_offset`.*at least 0"),
    ("dropout", 1.0, "`dropout`.*at least 0 and below 1"),
    ("attention_dropout", -0.1, "`attention_dropout`.*at least 0 and below 1"),
    ("classifier_dropout", 1.0, "`classifier_dropout`.*at least 0 and below 1"),
    ("layer_norm_epsilon", 0.0, "`layer_norm_epsilon`.*above 0"),
    ("initializer_range", 0.0, "`initializer_range`.*above 0"),
    ("activation", "gelu_new", "Unknown activation 'gelu_new'"),
    ("classifier_activation", "than", "Unknown activation 'than'. Did you mean 'tanh'"),
])
def test_values_that_do_not_fit_are_refused(field, value, words):
    with pytest.raises(ValueError, match=words):
        BertConfig(**{**TINY, field: value})


def test_the_defaults_are_those_of_the_paper():
    assert BertConfig() == PRESETS["bert-base"].config
    assert (BertConfig().activation, BertConfig().layer_norm_epsilon) == ("gelu", 1e-12)


# Sizes.

def number_of_weights(config, pooler=True):
    """Counted from the architecture, not from our layers."""
    width, inner = config.hidden_dim, config.intermediate_dim
    rows = config.vocabulary_size + config.max_sequence_length + config.position_offset + config.num_segments
    block = 4 * (width + 1) * width + (width + 1) * inner + (inner + 1) * width + 4 * width
    return rows * width + 2 * width + config.num_layers * block + (width + 1) * width * (pooler and config.use_pooler)


@pytest.mark.parametrize("changes", [{}, {"num_segments": 0}, {"position_offset": 2, "num_layers": 3}], ids=str)
def test_the_count_is_the_models(changes):
    config = BertConfig(**{**TINY, **changes})
    model = BertBackbone(config)
    model.build()
    assert model.count_params() == number_of_weights(config, pooler=False)
    assert number_of_weights(config) != number_of_weights(config.replace(hidden_dim=28))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_state_their_parameters(name):
    """As published: bert-tiny 4.4 M, mini 11.2, small 28.8, medium 41.4, base 110, large 340, and so on."""
    assert PRESETS[name].parameters == number_of_weights(PRESETS[name].config)


def test_fresh_weights_have_the_spread_of_the_config():
    keras.utils.set_random_seed(0)
    model = kzoo.create("bert-tiny", task="text-classification", labels=("a", "b"), vocabulary_size=300, num_layers=1)
    for path, variable in variables_by_path(model).items():
        values = ops.convert_to_numpy(variable)
        if path.endswith(("kernel", "embeddings")):  # what is beyond twice the spread was drawn again
            assert np.abs(values).max() <= 0.04 and values.std() == pytest.approx(0.0176, rel=0.15), path
        else:
            assert (values == path.endswith("scale")).all(), path


def test_dropout_stands_where_the_reference_has_it(monkeypatch):
    """On the embeddings, the attention weights, the output of each branch, and before the classifier."""
    seen = []

    def note(layer, inputs, training=False):
        if layer.rate:
            seen.append((layer.rate, bool(training), len(inputs.shape)))
        return inputs

    monkeypatch.setattr(kzoo.layers.Dropout, "call", note)
    rates = {"dropout": 0.3, "attention_dropout": 0.2, "classifier_dropout": 0.1}
    model = kzoo.create("bert-tiny", task="text-classification", labels=("a", "b"), **TINY, **rates)
    model({"token_ids": IDS}, training=True)
    per_layer = [(0.2, True, 4), (0.3, True, 3), (0.3, True, 3)]  # weights (B, H, T, S), then two branches (B, T, E)
    assert seen == [(0.3, True, 3)] + per_layer * TINY["num_layers"] + [(0.1, True, 2)]
    seen.clear()
    kzoo.create("bert-tiny", task="token-classification", labels=("a", "b"), **TINY,
                **{**rates, "classifier_dropout": None})({"token_ids": IDS}, training=True)
    assert seen[-1] == (0.3, True, 3)  # the classifier's is the others' where it is not given


# Embeddings.

def states(model, **inputs):
    return ops.convert_to_numpy(model.backbone(inputs))


def test_embeddings_agree_with_the_formula():
    """norm(token + position + segment), with the position counted from the offset."""
    config = BertConfig(**{**TINY, "num_layers": 1, "position_offset": 3}, num_segments=2, layer_norm_epsilon=0.03)
    backbone = BertBackbone(config)
    backbone.build()
    rng = np.random.default_rng(0)
    backbone.set_weights([rng.normal(0, 0.3, weight.shape) for weight in backbone.weights])
    token, position, segment = (ops.convert_to_numpy(getattr(backbone, f"{name}_embedding").embeddings)
                                for name in ("token", "position", "segment"))
    token_ids, segment_ids = rng.integers(0, 29, (2, 5)), rng.integers(0, 2, (2, 5))
    summed = token[token_ids] + position[3:8] + segment[segment_ids]
    centred = summed - summed.mean(axis=-1, keepdims=True)
    scale, bias = (ops.convert_to_numpy(weight) for weight in backbone.embedding_norm.weights)
    expected = centred / np.sqrt(centred.var(axis=-1, keepdims=True) + 0.03) * scale + bias
    seen = []
    backbone.dropout = lambda x, training: seen.append(ops.convert_to_numpy(x)) or x  # what the first block receives
    backbone.forward({"token_ids": ops.convert_to_tensor(token_ids, "int32"),
                      "segment_ids": ops.convert_to_tensor(segment_ids, "int32")})
    np.testing.assert_allclose(seen[0], expected, atol=1e-5)


def test_positions_come_from_the_sequence_not_from_the_ids():
    """The same token at two places must not get the same vector; rows before the offset are not read."""
    model = kzoo.create("roberta-base", **TINY, initializer_range=0.3)
    before = states(model, token_ids=IDS)
    assert len(np.unique(before[0].round(4), axis=0)) == 5
    table = model.backbone.position_embedding.embeddings
    values = ops.convert_to_numpy(table).copy()
    assert values.shape == (21, 24)
    table.assign(values * np.isin(np.arange(21), range(2, 7))[:, None])
    np.testing.assert_array_equal(states(model, token_ids=IDS), before)


def test_segments_are_zero_where_they_are_not_given():
    model = kzoo.create("bert-tiny", **TINY, initializer_range=0.3)
    before = states(model, token_ids=IDS)
    np.testing.assert_array_equal(states(model, token_ids=IDS, segment_ids=np.zeros_like(IDS)), before)
    assert np.abs(states(model, token_ids=IDS, segment_ids=np.ones_like(IDS)) - before).max() > 0.01


def test_an_input_longer_than_the_model_is_refused():
    model = kzoo.create("roberta-base", **TINY)
    with pytest.raises(ValueError, match="`token_ids` has 20 tokens a row; `max_sequence_length` is 19"):
        model({"token_ids": np.zeros((1, 20), "int32")})


# The first tokens alone.

PATTERNS = ("full", "blockwise", {"name": "block_local", "block_size": 3}, {"name": "strided", "stride": 3},
            {"name": "sliding_window", "window_size": 3}, {"name": "block_sparse", "block_size": 3},
            {"name": "hierarchical", "segment_size": 3})


@pytest.mark.parametrize("pattern", PATTERNS, ids=part_name)
@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_the_first_token_needs_no_other_query_of_the_last_layer(pattern, padding):
    model = kzoo.create("bert-tiny", **TINY, pattern=pattern, initializer_range=0.3)
    inputs = {"token_ids": ops.convert_to_tensor(np.random.default_rng(0).integers(0, 29, (3, 11)), "int32")}
    mask = np.arange(11) < np.array([[11], [4], [7]])
    if padding != "none":
        inputs["padding_mask"] = ops.convert_to_tensor(mask if padding == "right" else mask[:, ::-1].copy())
    hidden_states, _ = model.backbone.forward(inputs)
    expected = ops.convert_to_numpy(first_token(hidden_states, inputs.get("padding_mask")))
    found = ops.convert_to_numpy(model.backbone.first_states(inputs))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.ptp(expected))
    bias = model.backbone.blocks[-1].attention.query.bias
    bias.assign(bias + 1.0)  # that query is computed, and counts
    assert np.abs(ops.convert_to_numpy(model.backbone.first_states(inputs)) - expected).max() > 1e-3


def test_training_sees_the_same_gradients_by_the_first_token_alone():
    model = kzoo.create("bert-tiny", **TINY, initializer_range=0.3)
    inputs = {"token_ids": ops.convert_to_tensor(np.random.default_rng(0).integers(0, 29, (3, 11)), "int32")}
    weights = model.backbone.trainable_variables
    values = [ops.convert_to_tensor(weight.value) for weight in weights]

    def gradients(states):
        def total(*values):
            with keras.StatelessScope(state_mapping=list(zip(weights, values, strict=True))):
                return ops.sum(ops.sin(states()))

        return [ops.convert_to_numpy(each) for each in differentiate(total, *values)[1](ops.ones(()))]

    short = gradients(lambda: model.backbone.first_states(inputs))
    for found, expected in zip(short, gradients(lambda: model.backbone.forward(inputs)[0][:, 0]), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))
    other = gradients(lambda: model.backbone.forward(inputs)[0][:, 1])
    assert max(np.abs(one - two).max() for one, two in zip(short, other, strict=True)) > 1e-2


def test_the_last_layer_works_on_one_token(monkeypatch):
    seen = []
    call = FeedForward.call
    monkeypatch.setattr(FeedForward, "call", lambda layer, x, **options: seen.append(x.shape[1]) or call(
        layer, x, **options))
    model = kzoo.create("bert-tiny", task="text-classification", labels=("a", "b"), **TINY)
    model({"token_ids": IDS})
    assert seen == [5] * (TINY["num_layers"] - 1) + [1]


# Equality with the references.

@pytest.fixture(scope="module", params=[(kind, task) for kind in KINDS for task in TASKS], ids="-".join)
def reference(request):
    """(model, what the reference computed with its weights)."""
    folder = FIXTURES.joinpath(*request.param)
    with np.load(folder / "expected.npz", allow_pickle=False) as file, warnings.catch_warnings():
        warnings.simplefilter("error")
        return kzoo.load(folder), dict(file)



def outputs(model, inputs):
    """dict of the outputs that the reference has."""
    if model.task == "feature-extraction":  # its class gives the states and the pooler's answer; ours pools
        x = model.backbone.forward(inputs)[0]
        return {"hidden_states": x} if model.pooler is None else {"hidden_states": x, "pooler": model.pooler(x[:, 0])}
    result = model(inputs)
    return result if isinstance(result, dict) else {"logits": result}


def three_ways(expected):
    """(inputs, row -> where its tokens are): unpadded rows, then the same padded on the right, then on the left."""
    mask = expected["right_mask"]
    B, T = mask.shape
    inputs = {"padding_mask": np.concatenate([np.ones((B, T), bool), mask, mask[:, ::-1]])}
    real = [slice(None)] * B + [slice(0, count) for count in mask.sum(axis=1)]
    for name in ("token_ids", "segment_ids"):
        if name in expected:
            left = np.ones_like(expected[name])
            for row, count in enumerate(mask.sum(axis=1)):
                left[row, T - count:] = expected[name][row, :count]
            inputs[name] = np.concatenate([expected[name], expected[name], left])
    return inputs, real + [slice(T - count, T) for count in mask.sum(axis=1)]


def assert_equal_outputs(model, expected):
    inputs, real = three_ways(expected)
    tensors = {name: ops.convert_to_tensor(value) for name, value in inputs.items()}
    results = compile_function(model, lambda inputs: outputs(model, inputs))(tensors)
    B = len(expected["right_mask"])
    for name, result in results.items():
        if name == "pooler":  # reads the first column, which is padding in the last rows
            result = result[:2 * B]
        wanted = [*expected[name], *expected[f"right:{name}"], *(expected[f"alone_{row}:{name}"] for row in range(B))]
        scale = np.sqrt(np.mean(expected[name] ** 2))
        a_row = expected[name].ndim > 2 or name.endswith("_logits")
        for row, each in enumerate(ops.convert_to_numpy(result)):
            each, target = (each[real[row]], wanted[row][:len(each[real[row]])]) if a_row else (each, wanted[row])
            np.testing.assert_allclose(each, target, rtol=0, atol=scale * 1e-5, err_msg=name)


def test_outputs_equal_the_reference(reference):
    """Rows alone, padded on the right and padded on the left."""
    assert_equal_outputs(*reference)


@pytest.mark.parametrize("kind, changes", [
    ("bert", {"activation": "gelu_tanh"}), ("roberta", {"layer_norm_epsilon": 3.3e-3}),
    ("roberta", {"position_offset": 3, "max_sequence_length": 18}), ("distilbert", {"layer_norm_epsilon": 1e-3}),
], ids=["other GELU", "epsilon 10 % off", "positions by one", "Keras' epsilon"])
def test_a_small_difference_would_be_seen(kind, changes):
    folder = FIXTURES / kind / "fill-mask"
    model = kzoo.load(folder)
    other = build_task(model.family, model.config.replace(**changes), "fill-mask")
    other.set_weights(model.get_weights())
    with np.load(folder / "expected.npz", allow_pickle=False) as file:
        with pytest.raises(AssertionError, match="Mismatched elements"):
            assert_equal_outputs(other, dict(file))


@pytest.mark.parametrize("kind, task", [("bert", task) for task in TASKS] + [("roberta", "fill-mask"),
                                                                             ("distilbert", "fill-mask")])
def test_gradients_equal_the_reference(kind, task, gradients):
    model = kzoo.load(FIXTURES / kind / task)
    with np.load(FIXTURES / kind / task / "expected.npz", allow_pickle=False) as file:
        expected = dict(file)
    inputs = {name: expected[name] for name in ("token_ids", "segment_ids") if name in expected}

    def loss():
        return sum(ops.sum(each * np.cos(np.arange(expected[name].size, dtype="float32")).reshape(each.shape))
                   for name, each in outputs(model, inputs).items())

    table = layout_of(model).table(model)
    rows = {entry.stored: entry for entry in table.entries()}
    paths = {id(variable): path for path, variable in variables_by_path(model).items()}
    found = {paths[id(variable)]: gradient for variable, gradient in
             zip(model.trainable_variables, gradients(model, loss), strict=True)}
    names = [name.removeprefix("gradient:") for name in expected if name.startswith("gradient:")]
    assert len(names) == 3
    for name in names:
        entry = rows[name] if name in rows else rows[table.prefix + name]
        wanted = entry.from_stored(expected[f"gradient:{name}"])
        np.testing.assert_allclose(found[entry.variables[0]], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max(),
                                   err_msg=name)


# Their folders.

@pytest.mark.parametrize("kind, name", [("xlm-roberta", "XLMRoberta"), ("camembert", "Camembert")])
def test_other_names_of_a_roberta_are_read(kind, name, tmp_path):
    """transformers' classes are copies of RoBERTa's, with its names of tensors."""
    for task in ("fill-mask", "feature-extraction"):
        folder = shutil.copytree(FIXTURES / "roberta" / task, tmp_path / task)
        values = json.loads((folder / "config.json").read_text())
        values.update(model_type=kind, architectures=[values["architectures"][0].replace("Roberta", name)])
        (folder / "config.json").write_text(json.dumps(values))
        with np.load(folder / "expected.npz", allow_pickle=False) as file:
            assert_equal_outputs(kzoo.load(folder), dict(file))
        kzoo.save(kzoo.load(folder), tmp_path / f"{task} again", format="hugging_face")
        assert json.loads((tmp_path / f"{task} again" / "config.json").read_text())["model_type"] == "roberta"


def test_folders_go_in_and_out(reference, tmp_path):
    """What was read is written again: the same tensors, the same fields where they have a meaning here."""
    model, _ = reference
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    kind = json.loads((tmp_path / "hf" / "config.json").read_text())["model_type"]
    folder = FIXTURES / kind / model.task
    ours, theirs = ({name.removeprefix(f"{kind}."): array for name, array in
                     safetensors.numpy.load_file(path / "model.safetensors").items()}
                    for path in (tmp_path / "hf", folder))
    assert sorted(ours) == sorted(theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array)
    written, read = (json.loads((path / "config.json").read_text()) for path in (tmp_path / "hf", folder))
    fields = [theirs for layout in model.family.layouts if layout.model_type == kind for _, theirs in layout.fields]
    for name in (*fields, "architectures", "pad_token_id" if kind == "roberta" else "model_type"):
        assert written[name] == read.get(name, written[name]), name
    assert kzoo.load(tmp_path / "hf").config == model.config
    assert kzoo.load(tmp_path / "hf").settings() == model.settings()


@pytest.fixture()
def folder(tmp_path):
    """A copy of a BERT folder that tests may spoil."""
    for path in (FIXTURES / "bert" / "fill-mask").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite(folder, change):
    path = folder / "model.safetensors"
    arrays = change(safetensors.numpy.load_file(path))
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def test_old_files_load(folder):
    """gamma and beta, buffers, the head of next-sentence prediction, and a pooler that a masked LM has no use for."""
    def age(arrays):
        old = {name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
               for name, array in arrays.items()}
        return {**old, "cls.seq_relationship.weight": np.ones((2, 12), "float32"),
                "cls.seq_relationship.bias": np.ones(2, "float32"),
                "bert.pooler.dense.weight": np.ones((12, 12), "float32"),
                "bert.pooler.dense.bias": np.ones(12, "float32"),
                "bert.embeddings.position_ids": np.arange(19)[None],
                "cls.predictions.decoder.weight": arrays["bert.embeddings.word_embeddings.weight"],
                "cls.predictions.decoder.bias": arrays["cls.predictions.bias"]}

    before = kzoo.load(folder)
    rewrite(folder, age)
    edit(folder, architectures=["BertForPreTraining"])
    again = kzoo.load(folder)
    assert again.task == "fill-mask" and again.newly_initialized == ()
    for ours, theirs in zip(again.get_weights(), before.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_bare_backbone_is_a_start_for_every_task():
    """Its names have no prefix; what it holds of a head is used."""
    source = kzoo.load(FIXTURES / "bert" / "feature-extraction")
    for task, new in (("text-classification", "classifier/bias, classifier/kernel:"),
                      ("question-answering", "span_classifier/bias, span_classifier/kernel:")):
        settings = {"labels": ("a", "b")} if task == "text-classification" else {}
        with pytest.warns(UserWarning, match=f"holds no weights for {new}"):
            model = kzoo.load(FIXTURES / "bert" / "feature-extraction", task=task, **settings)
        for path, variable in variables_by_path(source).items():
            if path in variables_by_path(model):
                np.testing.assert_array_equal(ops.convert_to_numpy(variables_by_path(model)[path]),
                                              ops.convert_to_numpy(variable))


@pytest.mark.parametrize("changes, words", [
    ({"is_decoder": True}, "`is_decoder` in config.json is true: a decoder of this kind is not supported"),
    ({"position_embedding_type": "relative_key"}, "`position_embedding_type` in config.json is 'relative_key'"),
    ({"hidden_act": "mish"}, "`hidden_act` in config.json is 'mish'; supported are: gelu, "),
    ({"model_type": "roberta", "pad_token_id": None}, "`pad_token_id` in config.json must be a token id"),
    ({"model_type": "roberta", "pad_token_id": 1, "hidden_act": "relu"}, "`hidden_act` in config.json is 'relu'"),
    ({"type_vocab_size": 3}, "'bert.embeddings.token_type_embeddings.weight' has the shape .2, 12.; .* asks for .3"),
    ({"hidden_size": 15}, "asks for 15 as `hidden_dim`, and no stored tensor has an axis of that length"),
    ({"num_hidden_layers": 3}, "lacks the tensor 'bert.encoder.layer.2.attention"),
    ({"num_hidden_layers": 1}, "no place for: 'bert.encoder.layer.1.attention"),
])
def test_folders_that_do_not_fit_are_refused(folder, changes, words):
    edit(folder, **changes)
    with pytest.raises(ValueError, match=words) as caught:
        kzoo.load(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_an_untied_decoder_is_refused(folder):
    rewrite(folder, lambda arrays: {**arrays, "cls.predictions.decoder.weight":
                                    arrays["bert.embeddings.word_embeddings.weight"] + 1e-6})
    with pytest.raises(ValueError, match="tensor 'cls.predictions.decoder.weight' differs from the one it is tied to"):
        kzoo.load(folder)


@pytest.mark.parametrize("changes", [
    {"num_segments": 0}, {"use_pooler": False}, {"classifier_activation": "silu"},
    {"position_offset": 2, "activation": "relu"}, {"num_segments": 0, "position_offset": 2}], ids=str)
def test_what_no_class_has_room_for_is_refused_before_anything_is_written(tmp_path, changes):
    model = kzoo.create("bert-tiny", **{**TINY, **changes})
    with pytest.raises(ValueError, match="ha.* no room for `.*; keep it in the kzoo format"):
        kzoo.save(model, tmp_path / "hf", format="hugging_face")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name, kind", [("bert-tiny", "bert"), ("distilbert-base", "distilbert"),
                                        ("roberta-base", "roberta")])
def test_each_preset_has_its_own_class(tmp_path, name, kind):
    model = kzoo.create(name, **TINY)
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["model_type"] == kind
    assert kzoo.load(tmp_path / "hf").config == model.config

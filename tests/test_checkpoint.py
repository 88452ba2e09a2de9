"""Weight tables: every variable has one source, every stored tensor one use, and what does not fit is named."""
import dataclasses
import json
import re

import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from keras import ops

import kzoo
from kzoo.checkpoint import collect_weights, load_weights, native_table, save_weights, variables_by_path
from kzoo.hugging_face import layout_of
from kzoo.tensor_files import TensorFolder
from kzoo.weight_table import (
    Conv1D,
    Entry,
    Ignore,
    Linear,
    Norm,
    Split,
    SplitLinear,
    Tensor,
    Tied,
    Unstored,
    WeightTable,
    expand,
    with_prefix,
)

SIZES = dict(vocabulary_size=29, num_layers=2, num_heads=4, hidden_dim=24, intermediate_dim=37, max_sequence_length=19,
             dropout=0.0)
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model():
    model = kzoo.create("gpt2-nano", **SIZES)
    model.set_weights([rng.normal(0, 0.3, weight.shape) for weight in model.weights])
    return model


def logits(model):
    return ops.convert_to_numpy(model({"token_ids": np.arange(14, dtype="int32").reshape(2, 7)}))


# Rows.

def test_rows_say_what_they_store():
    kernel, bias = Conv1D("c_fc", "up").entries()
    assert (kernel, bias) == (Entry("c_fc.weight", ("up/kernel",)), Entry("c_fc.bias", ("up/bias",), optional=True))
    assert Linear("c_fc", "up").entries() == [dataclasses.replace(kernel, transpose=True), bias]
    assert SplitLinear("qkv", ("query", "key")).entries() == [
        Entry("qkv.weight", ("query/kernel", "key/kernel"), transpose=True)]
    assert Norm("ln", "norm").entries()[0] == Entry("ln.weight", ("norm/scale",))
    assert Split("qk", ("q", "k")).entries()[0].variables == ("q/kernel", "k/kernel")
    assert Tensor("wte", "table").entries() == [Entry("wte", ("table",))] and Ignore("mask").entries() == []
    assert Tied("head", "table").entries() == [Entry("head", ("table",), tied=True, written=False)]


def test_layers_are_written_out():
    stored = [entry.stored for entry in expand((Tensor("wte", "table"), Tensor("h.{i}.x", "block_{i}/x")), {"i": 3})]
    assert stored == ["wte", "h.0.x", "h.1.x", "h.2.x"]


def test_two_rows_for_one_thing_are_refused():
    with pytest.raises(ValueError, match="Two rows of the weight table are for the stored tensor 'a'"):
        expand((Tensor("a", "x"), Tensor("a", "y")), {})
    with pytest.raises(ValueError, match="Two rows of the weight table are for the variable 'x'"):
        expand((Tensor("a", "x"), Tensor("b", "x")), {})
    assert len(expand((Tensor("a", "x"), Tied("b", "x")), {})) == 2  # which is what `Tied` is for


class Layers:
    """What a weight table needs of a model: two dense layers and a norm without offset."""

    name = "model"

    def __init__(self):
        self.weights = [keras.Variable(rng.normal(size=shape), dtype="float32", name=path.replace("/", "!"))
                        for path, shape in (("up/kernel", (3, 5)), ("up/bias", (5,)), ("gate/kernel", (3, 7)),
                                            ("gate/bias", (7,)), ("norm/scale", (3,)))]
        for weight in self.weights:
            weight._path = "model/" + weight.name.replace("!", "/")


def test_stored_forms_agree_with_numpy(tmp_path):
    """Linear stores [out, in], Conv1D [in, out], Split side by side; a missing offset is stored as zeros."""
    layers = Layers()
    up, up_bias, gate, gate_bias, scale = (ops.convert_to_numpy(weight) for weight in layers.weights)
    norm = Norm("ln", "norm")
    rows = with_prefix((Linear("up", "up"), Conv1D("gate", "gate"), norm), "net.")
    arrays = collect_weights(layers, WeightTable(rows, {}))
    np.testing.assert_array_equal(arrays["net.up.weight"], up.T)
    np.testing.assert_array_equal(arrays["net.gate.weight"], gate)
    np.testing.assert_array_equal(arrays["net.ln.bias"], np.zeros(3))
    split = (Split("both", ("up", "gate")), norm)
    arrays = collect_weights(layers, WeightTable(split, {}))
    np.testing.assert_array_equal(arrays["both.weight"], np.concatenate([up, gate], axis=1))
    np.testing.assert_array_equal(arrays["both.bias"], np.concatenate([up_bias, gate_bias]))

    for rows in (split[:1] + (Tensor("ln", "norm/scale"),),
                 (Linear("up", "up"), Conv1D("gate", "gate"), Tensor("ln", "norm/scale"))):
        fresh = Layers()
        save_weights(layers, tmp_path / "model.safetensors", WeightTable(rows, {}))
        assert load_weights(fresh, TensorFolder(tmp_path), WeightTable(rows, {})) == []
        for ours, theirs in zip(fresh.weights, layers.weights, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


def test_what_a_file_does_not_hold_keeps_its_value(tmp_path):
    layers, fresh = Layers(), Layers()
    kept = ops.convert_to_numpy(fresh.weights[2])
    rows = with_prefix((Linear("up", "up"), Tensor("gate.bias", "gate/bias"), Tensor("ln", "norm/scale"),
                        Unstored("{i}/kernel")), "net.")
    table = WeightTable(rows, {"i": 1})
    with pytest.raises(ValueError, match="no row for the variable 'gate/kernel'"):
        collect_weights(layers, table)  # the placeholder names another one
    table = WeightTable((*rows[:-1], Unstored("gate/kernel")), {})
    save_weights(layers, tmp_path / "model.safetensors", table)
    assert table.unstored_variables() == {"gate/kernel"}
    assert sorted(TensorFolder(tmp_path).names()) == ["net.gate.bias", "net.ln", "net.up.bias", "net.up.weight"]
    assert load_weights(fresh, TensorFolder(tmp_path), table) == []
    np.testing.assert_array_equal(ops.convert_to_numpy(fresh.weights[2]), kept)
    np.testing.assert_array_equal(ops.convert_to_numpy(fresh.weights[3]), ops.convert_to_numpy(layers.weights[3]))


# Tables.

def test_every_variable_has_one_source_and_every_tensor_one_use(model):
    table = layout_of(model).table(model)
    entries = [entry for entry in table.entries() if not entry.tied]
    claimed = [path for entry in entries for path in entry.variables]
    assert sorted(claimed) == sorted(variables_by_path(model)) and len(set(claimed)) == len(claimed)
    arrays = collect_weights(model, table)
    assert sorted(arrays) == sorted(entry.stored for entry in entries)
    assert sum(array.size for array in arrays.values()) == model.count_params()


def test_a_broken_row_is_caught(model, tmp_path):
    """Each row in turn is left out, or names a variable that does not exist."""
    table = layout_of(model).table(model)
    rows = table.rows
    save_weights(model, tmp_path / "model.safetensors", table)
    for place, row in enumerate(rows):
        if isinstance(row, Ignore):
            continue
        without = rows[:place] + rows[place + 1:]
        field = next(name for name in ("variable", "layer", "layers") if hasattr(row, name))
        value = getattr(row, field)
        nowhere = value[1:] + ("gpt2/no_{i}",) if field == "layers" else "gpt2/no_{i}"
        wrong = dataclasses.replace(row, **{field: nowhere})
        for broken in (without, rows[:place] + (wrong,) + rows[place + 1:]):
            broken = dataclasses.replace(table, rows=broken)
            with pytest.raises(ValueError, match="has no row for the variable|has no variable 'gpt2/no"):
                collect_weights(model, broken)
            with pytest.raises(ValueError, match="no place for|has no variable 'gpt2/no"):
                load_weights(model, TensorFolder(tmp_path), broken)


def test_native_rows_are_the_variables(model):
    arrays = collect_weights(model, native_table(model))
    assert sorted(arrays) == sorted(variables_by_path(model))
    assert not any("seed" in name for name in arrays)


def test_paths_do_not_depend_on_names_or_on_who_built_the_backbone(model):
    """A model that comes out of a .keras file has a backbone that was built first, outside of its task."""
    backbone = type(model.backbone)(model.config, name="another")
    backbone.build()
    other = type(model)(backbone, name="mine")
    other.build()
    assert other.weights[0].path.startswith("another/")
    assert list(variables_by_path(other)) == list(variables_by_path(model))


# Hugging Face folders.

@pytest.fixture()
def folder(model, tmp_path):
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    return tmp_path / "hf"


def read(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


def write(folder, arrays):
    safetensors.numpy.save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()},
                                folder / "model.safetensors")


def test_round_trip_is_bit_equal(model, folder, tmp_path):
    again = kzoo.load(folder)
    for ours, theirs in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))
    np.testing.assert_array_equal(logits(again), logits(model))
    kzoo.save(again, tmp_path / "twice", format="hugging_face")
    assert (tmp_path / "twice" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_names_are_hugging_faces(folder):
    arrays = read(folder)
    assert {name.split(".")[0] for name in arrays} == {"transformer"} and "lm_head.weight" not in arrays
    assert arrays["transformer.h.1.attn.c_attn.weight"].shape == (24, 3 * 24)
    assert arrays["transformer.h.0.mlp.c_fc.weight"].shape == (24, 37)
    with safetensors.safe_open(folder / "model.safetensors", framework="np") as file:
        assert file.metadata() == {"format": "pt"}  # transformers refuses a file without it
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["GPT2LMHeadModel"] and config["n_inner"] == 37
    assert config["activation_function"] == "gelu_new" and config["n_ctx"] == config["n_positions"] == 19


def test_bare_names_and_shards_load_alike(model, folder):
    """A bare backbone has no prefix; published files hold the causal mask as a buffer, and often come in parts."""
    arrays = {name.removeprefix("transformer."): array for name, array in read(folder).items()}
    arrays["h.0.attn.bias"] = np.tril(np.ones((1, 1, 19, 19), "uint8"))
    arrays["h.1.attn.masked_bias"] = np.array(-1e4, "float32")
    write(folder, arrays)
    np.testing.assert_array_equal(logits(kzoo.load(folder)), logits(model))

    (folder / "model.safetensors").unlink()
    weight_map = {}
    for part, names in enumerate((sorted(arrays)[:9], sorted(arrays)[9:])):
        file = f"model-0000{part + 1}-of-00002.safetensors"
        safetensors.numpy.save_file({name: arrays[name] for name in names}, folder / file)
        weight_map.update(dict.fromkeys(names, file))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    np.testing.assert_array_equal(logits(kzoo.load(folder)), logits(model))


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16, "float64"])
def test_other_floats_become_float32_variables(model, folder, dtype):
    arrays = {name: array.astype(dtype) for name, array in read(folder).items()}
    write(folder, arrays)
    again = kzoo.load(folder)
    table = again.backbone.token_embedding.embeddings
    assert ops.dtype(table) == "float32"
    np.testing.assert_array_equal(ops.convert_to_numpy(table), arrays["transformer.wte.weight"].astype("float32"))
    assert np.abs(logits(again) - logits(model)).max() < 0.1


def test_a_tied_head_may_repeat_the_table_but_not_differ(model, folder):
    arrays = read(folder)
    arrays["lm_head.weight"] = arrays["transformer.wte.weight"].copy()
    write(folder, arrays)
    np.testing.assert_array_equal(logits(kzoo.load(folder)), logits(model))
    arrays["lm_head.weight"][3, 5] += 1e-6
    write(folder, arrays)
    with pytest.raises(ValueError, match="tensor 'lm_head.weight' differs from the one it is tied to; untied"):
        kzoo.load(folder)


def test_offsets_that_a_model_lacks_are_stored_as_zeros(tmp_path):
    model = kzoo.create("gpt2-nano", **SIZES, use_bias=False)
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    arrays = read(tmp_path / "hf")
    assert arrays["transformer.h.0.attn.c_attn.bias"].shape == (72,) and not arrays["transformer.ln_f.bias"].any()
    again = kzoo.load(tmp_path / "hf")
    assert again.config.use_bias and not model.config.use_bias
    np.testing.assert_allclose(logits(again), logits(model), atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_models_of_half_precision_round_trip(tmp_path, dtype):
    model = kzoo.create("gpt2-nano", **SIZES, dtype=dtype)
    for format in ("kzoo", "hugging_face"):
        kzoo.save(model, tmp_path / format, format=format)
        again = kzoo.load(tmp_path / format, dtype=dtype)
        for ours, theirs in zip(again.weights, model.weights, strict=True):
            assert ops.dtype(ours) == dtype
            np.testing.assert_array_equal(ops.convert_to_numpy(ops.cast(ours, "float32")),
                                          ops.convert_to_numpy(ops.cast(theirs, "float32")))


# What does not fit. Each is refused in one sentence that names the file or tensor.

def drop(name):
    return lambda arrays: arrays.pop(name)


def change(name, make):
    return lambda arrays: arrays.__setitem__(name, make(arrays.get(name)))


BIAS = "transformer.h.1.attn.c_attn.bias"
BROKEN = {
    "missing": (drop(BIAS), "lacks the tensor 'transformer.h.1.attn.c_attn.bias'"),
    "several missing": (lambda arrays: [arrays.pop(name) for name in list(arrays) if ".mlp.c_fc." in name],
                        "asks for 37 as `intermediate_dim`, and no stored tensor|"
                        "'transformer.h.0.mlp.c_fc.weight' .and 3 more."),
    "extra": (change("transformer.h.0.attn.c_cross.weight", lambda _: np.zeros(3, "float32")),
              "no place for: 'transformer.h.0.attn.c_cross.weight'"),
    "a layer too many": (change("transformer.h.2.ln_1.weight", lambda _: np.zeros(24, "float32")),
                         "no place for: 'transformer.h.2.ln_1.weight'"),
    "mis-shaped": (change(BIAS, lambda array: array[:-1]), f"tensor '{BIAS}' has the shape .71,.; the config asks for "
                   ".72,."),
    "transposed": (change("transformer.h.0.mlp.c_fc.weight", np.transpose), "has the shape .37, 24.*asks for .24, 37."),
    "one token less": (change("transformer.wte.weight", lambda array: array[:-1]), "asks for 29 as `vocabulary_size`"),
    "not a number": (change(BIAS, lambda array: array * np.nan), f"tensor '{BIAS}' holds values that are not finite"),
    "infinite": (change(BIAS, lambda array: array.astype("float64") * 1e300), "not finite"),
    "whole numbers": (change(BIAS, lambda array: array.astype("int8")), f"'{BIAS}' has the type I8; weights must be"),
    "under two names": (change(BIAS.removeprefix("transformer."), lambda _: np.zeros(72, "float32")),
                        "holds one tensor under two names"),
    "head of another shape": (change("lm_head.weight", lambda _: np.zeros((28, 24), "float32")),
                              "tensor 'lm_head.weight' has the shape .28, 24.; the config asks for .29, 24."),
}


@pytest.mark.parametrize("case", BROKEN)
def test_tensors_that_do_not_fit_are_refused(folder, case):
    damage, words = BROKEN[case]
    arrays = read(folder)
    damage(arrays)
    write(folder, arrays)
    with pytest.raises(ValueError, match=words) as caught:
        kzoo.load(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0.3, 0.999])
def test_a_truncated_file_is_refused(folder, keep):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * keep)])
    with pytest.raises(ValueError, match="model.safetensors is not a sound safetensors file"):
        kzoo.load(folder)


def test_nothing_is_set_unless_all_fits(model, folder):
    arrays = read(folder)
    arrays[BIAS] = arrays[BIAS][:-1]
    write(folder, arrays)
    other = kzoo.create("gpt2-nano", **SIZES)
    before = other.get_weights()
    with pytest.raises(ValueError, match="has the shape"):
        load_weights(other, TensorFolder(folder), layout_of(model).table(model))
    assert all(np.array_equal(one, two) for one, two in zip(before, other.get_weights(), strict=True))


# Configs.

def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("changes, words", [
    ({"n_embd": "24"}, "`hidden_dim` of GPT2Config must be int. Received: '24'"),
    ({"n_head": 4.5}, "`num_heads` of GPT2Config must be int"),
    ({"n_layer": True}, "`num_layers` of GPT2Config must be int"),
    ({"n_layer": None}, "`num_layers` of GPT2Config must be int"),
    ({"n_head": 5}, "`hidden_dim` of GPT2Config must be divisible by `num_heads`"),
    ({"layer_norm_epsilon": float("nan")}, "`layer_norm_epsilon` of GPT2Config must be finite"),
    ({"resid_pdrop": 3}, "`dropout` of GPT2Config must be at least 0 and below 1"),
    ({"activation_function": "mish"}, "`activation_function` in config.json is 'mish'; supported are: gelu_new, "),
    ({"activation_function": ["gelu"]}, "`activation_function` in config.json is .'gelu'."),
    ({"model_type": "bertt"}, "Unknown model_type 'bertt'"),
    ({"model_type": None}, "`model_type` must be a text"),
    ({"model_type": ["gpt2"]}, "`model_type` must be a text. Received: .'gpt2'."),
    ({"vocab_size": 10 ** 12}, "asks for 1000000000000 as `vocabulary_size`, and no stored tensor has an axis"),
    ({"n_positions": 10 ** 12}, "`max_sequence_length`, and no stored tensor"),
    ({"n_inner": 10 ** 12}, "`intermediate_dim`, and no stored tensor"),
    ({"n_embd": 4 * 10 ** 9}, "`hidden_dim`, and no stored tensor"),
    ({"n_layer": 10 ** 9}, "says there are 1000000000 layers, and there are only 28 tensors"),
    ({"n_layer": 3}, "lacks the tensor 'transformer.h.2.ln_1.weight'"),
    ({"n_layer": 1}, "no place for: 'transformer.h.1."),
])
def test_configs_that_do_not_fit_are_refused(folder, changes, words):
    edit(folder, **changes)
    with pytest.raises(ValueError, match=words) as caught:
        kzoo.load(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_other_words_for_the_same_are_understood(model, folder):
    edit(folder, activation_function="gelu_pytorch_tanh", n_ctx=None, some_field_of_tomorrow=3)
    assert kzoo.load(folder).config == model.config
    for word, meaning in (("swish", "silu"), ("gelu", "gelu"), ("relu", "relu")):
        edit(folder, activation_function=word)
        assert kzoo.load(folder).config.activation == meaning


def test_a_field_that_is_left_out_has_its_default(folder):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    for name in ("layer_norm_epsilon", "activation_function", "scale_attn_weights", "initializer_range"):
        del values[name]
    path.write_text(json.dumps(values))
    config = kzoo.load(folder).config
    assert (config.layer_norm_epsilon, config.activation, config.scale_scores) == (1e-5, "gelu_tanh", True)


@pytest.mark.parametrize("changes", [{"position": "rotary"}, {"num_key_value_heads": 2}])
def test_what_hugging_face_has_no_room_for_is_refused_before_anything_is_written(tmp_path, changes):
    model = kzoo.create("gpt2-nano", **{**SIZES, **changes})
    name, value = next(iter(changes.items()))
    with pytest.raises(ValueError, match=re.escape(f"has no room for `{name}`={value!r}; keep it in the kzoo format")):
        kzoo.save(model, tmp_path / "hf", format="hugging_face")
    assert not list(tmp_path.iterdir())

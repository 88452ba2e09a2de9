"""The TFLite file: builtin operators, fixed shapes, weights stored once."""
import contextlib

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import kzoo
from kzoo.export import export, open_bundle, read_bundle, verify
from kzoo.export.signatures import prefill_lengths
from kzoo.export.tflite_file import read_tflite
from kzoo.export.tflite_model import TFLiteTarget
from kzoo.layers import Blockwise


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tflite")
    assert TFLiteTarget().write(model, folder) == ["tflite/model.tflite"]
    assert [path.name for path in (folder / "tflite").iterdir()] == ["model.tflite"]
    return folder / "tflite" / "model.tflite"


def test_signatures_and_fixed_shapes(written, model):
    interpreter = Interpreter(str(written))
    lengths = prefill_lengths(model.config.max_sequence_length)
    assert set(interpreter.get_signature_list()) == {"decode", *(f"prefill_{length}" for length in lengths)}
    inputs = interpreter.get_signature_runner("decode").get_input_details()
    assert list(inputs["kv_cache_k_1"]["shape"]) == [1, 53, 3, 5]
    assert all(-1 not in row["shape_signature"] for row in inputs.values())


def test_only_builtin_operators(written):
    interpreter = Interpreter(str(written))
    names = {row["op_name"] for row in interpreter._get_ops_details()}
    assert names and not [name for name in names if name.startswith(("Flex", "Custom")) or name in (
        "WHILE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE")]


def test_a_plain_interpreter_writes_our_ids(written, model):
    decode = Interpreter(str(written)).get_signature_runner("decode")
    empty = {name: np.zeros(row["shape"], row["dtype"]) for name, row in decode.get_input_details().items()}
    caches = {name: value for name, value in empty.items() if name.startswith("kv_cache")}
    ids = [5, 3, 2]
    expected = model.generate(ids, max_new_tokens=13, eos_token_id=())
    for place in range(len(expected) - 1):
        outputs = decode(tokens=np.array([[ids[place]]], "int32"), input_pos=np.array([place], "int32"),
                         mask=empty["mask"], **caches)
        caches = {name: outputs[name] for name in caches}
        if place + 1 == len(ids):
            ids.append(int(outputs["logits"].argmax()))
    assert ids == expected and len(set(ids)) > 4


def test_weights_are_stored_once(written, model):
    weights, signatures = 4 * model.count_params(), 1 + len(prefill_lengths(model.config.max_sequence_length))
    assert weights < written.stat().st_size < weights * 2 + 40_000 * signatures


def test_less_room_than_the_model_has(model, export_here, tmp_path):
    """The other formats and the model keep all of theirs."""
    folder = tmp_path / "bundle"
    export_here(model, folder, formats=("onnx", "tflite"), static_length=19)
    bundle = read_bundle(folder)
    assert (bundle.sizes["max_sequence_length"], bundle.sizes["static_length"]) == (53, 19)
    prompt = list(range(1, 18))
    expected = model.generate(prompt, max_new_tokens=2)
    for runtime, longest in (("onnx", 53), ("tflite", 19)):
        session = open_bundle(folder, runtime)
        assert session.max_sequence_length == longest
        assert session.generate(prompt, max_new_tokens=2) == expected
    shapes = {row.shape for row in open_bundle(folder, "tflite").signatures["decode"].inputs[3:]}
    assert shapes == {(1, 19, 3, 5)}
    with pytest.warns(UserWarning, match="max_sequence_length=19"):
        open_bundle(folder, "tflite").generate(prompt, max_new_tokens=5)
    assert "(1, 19, 3, 5)" in (folder / "README.md").read_text(encoding="utf-8")
    assert verify(folder, model=model).passed


@pytest.mark.parametrize("length", [1, 54, 2.0, True])
def test_room_that_a_file_cannot_have_is_refused(model, tmp_path, length):
    with pytest.raises(ValueError, match=r"`static_length` \(--static-length\) must be a whole number from 2 to 53"):
        export(model, tmp_path / "bundle", static_length=length)
    assert list(tmp_path.iterdir()) == []


def test_room_means_nothing_where_nothing_is_cached(tmp_path):
    classifier = kzoo.create("bert-tiny", task="text-classification", labels=("a", "b"), vocabulary_size=11,
                             num_layers=1, num_heads=2, hidden_dim=6, intermediate_dim=7, max_sequence_length=5)
    with pytest.raises(ValueError, match="means nothing to a model of the task 'text-classification'"):
        export(classifier, tmp_path / "bundle", static_length=4)


def test_attention_in_blocks_becomes_one_product(export_here, tmp_path, monkeypatch):
    """A loop would be control flow, which is refused; the model keeps its blocks."""
    # Two layers: a prompt's signature gives caches alone, and those of the first need no attention.
    model = kzoo.create("gpt2-nano", vocabulary_size=29, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=9,
                        max_sequence_length=32, pattern={"name": "blockwise", "block_size": 8})
    export_here(model, tmp_path / "bundle", formats=("tflite",))
    assert model.backbone.blocks[0].attention.pattern == Blockwise(8)
    monkeypatch.setattr("kzoo.export.tflite_model.without_loops", lambda model: contextlib.nullcontext())
    TFLiteTarget().write(model, tmp_path / "loops")
    graphs = read_tflite(tmp_path / "loops" / "tflite" / "model.tflite")
    assert "WHILE" in {operator.kind for graph in graphs for operator in graph.operators}

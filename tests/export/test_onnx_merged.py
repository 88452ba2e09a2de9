"""Both decoders in one graph, and the weights of three graphs in one file."""
import json
import shutil

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import kzoo
from kzoo.export import open_bundle, read_bundle, verify
from kzoo.export.audit import audit
from kzoo.export.onnx_merged import save_together

SOURCE = [5, 3, 7, 2, 1]


@pytest.fixture(scope="module")
def translator(redrawn, export_here, tmp_path_factory):
    """(model, folder) of a bundle; heads and states have unequal widths."""
    model = redrawn(kzoo.create("t5-v1.1-small", task="translation", vocabulary_size=307, num_layers=1,
                                num_decoder_layers=2, num_heads=3, head_dim=5, hidden_dim=24, intermediate_dim=17))
    folder = tmp_path_factory.mktemp("merged") / "bundle"
    export_here(model, folder, formats=("onnx",))
    return model, folder


def test_it_writes_what_the_model_writes(translator):
    model, folder = translator
    session = open_bundle(folder, merged=True)
    for options in ({}, {"num_beams": 3}):
        expected = model.generate([SOURCE, SOURCE[2:]], max_new_tokens=11, **options)
        assert len(set(expected[0])) > 2
        assert session.generate([SOURCE, SOURCE[2:]], max_new_tokens=11, **options) == expected


def test_one_branch_chooses_and_holds_no_weights(translator):
    graph = onnx.load(translator[1] / "onnx" / "decoder_model_merged.onnx", load_external_data=False).graph
    choice, = [node for node in graph.node if node.op_type == "If"]
    assert len(choice.output) == 2 * 4
    branches = {attribute.name: attribute.g for attribute in choice.attribute}
    assert {node.op_type for node in branches["then_branch"].node} == {"Identity"}
    assert not branches["else_branch"].initializer
    assert "use_cache_branch" in [value.name for value in graph.input]


def test_every_weight_of_the_decoders_lies_once_in_one_file(translator):
    model, folder = translator
    places, stored = set(), {}
    for name in ("decoder_model", "decoder_with_past_model", "decoder_model_merged"):
        path = folder / "onnx" / f"{name}.onnx"
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            where = {entry.key: entry.value for entry in tensor.external_data}
            if where:
                assert where["location"] == "decoder_model_merged.onnx_data"
                places.add((int(where["offset"]), int(where["length"])))
            else:
                assert len(tensor.raw_data) <= 1024
        for tensor in onnx.load(path).graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            if array.nbytes > 1024:
                stored[array.tobytes()] = array.nbytes
    assert (folder / "onnx" / "decoder_model_merged.onnx_data").stat().st_size == sum(stored.values())
    assert sorted(length for _, length in places) == sorted(stored.values())
    assert sum(stored.values()) < 4 * model.count_params()
    assert json.loads((folder / "config.json").read_text())["transformers.js_config"] == {
        "dtype": "fp32", "use_external_data_format": {"decoder_model_merged.onnx": 1}}


def test_what_a_branch_does_not_need_is_not_read(translator):
    """Other programs fill it with something of another shape."""
    path = str(translator[1] / "onnx" / "decoder_model_merged.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    feeds = {"input_ids": np.array([[0, 7]]), "encoder_attention_mask": np.ones((1, 4), "int64"),
             "encoder_hidden_states": random.normal(size=(1, 4, 24)).astype("float32")}
    names = [value.name for value in session.get_inputs() if value.name.startswith("past")]

    def call(ids, caches, hidden, flag):
        outputs = session.run(None, {**feeds, **caches, "input_ids": np.array([ids]), "encoder_hidden_states": hidden,
                                     "use_cache_branch": np.array([flag])})
        return dict(zip((value.name for value in session.get_outputs()), outputs, strict=True))

    hidden = feeds["encoder_hidden_states"]
    both = call([0, 7], {name: np.zeros((1, 3, 0, 5), "float32") for name in names}, hidden, False)
    junk = call([0, 7], {name: np.ones((1, 3, 1, 8), "float32") for name in names}, hidden, False)
    for name, value in both.items():
        np.testing.assert_array_equal(junk[name], value)
    first = call([0], {name: np.zeros((1, 3, 0, 8), "float32") for name in names}, hidden, False)
    caches = {name: first[name.replace("past_key_values", "present")] for name in names}
    second = call([7], caches, np.full((1, 1, 24), 9, "float32"), True)
    np.testing.assert_allclose(second["logits"][:, 0], both["logits"][:, 1], atol=1e-4)
    other = call([7], {name: value * 1.1 for name, value in caches.items()}, hidden, True)
    assert np.abs(other["logits"] - second["logits"]).max() > 1e-2


def test_a_wrong_one_fails_the_gate(translator, reseal, tmp_path):

    folder = shutil.copytree(translator[1], tmp_path / "bundle")
    rows = [row for row in verify(folder).rows if row["check"].startswith("decoders merged: ")]
    assert len(rows) > 5 and all(row["passed"] for row in rows)
    path = folder / "onnx" / "decoder_model_merged.onnx"
    proto = onnx.load(path, load_external_data=False)
    choice, = [node for node in proto.graph.node if node.op_type == "If"]
    fresh = next(attribute.g for attribute in choice.attribute if attribute.name == "else_branch")
    fresh.output[2].name, fresh.output[3].name = fresh.output[3].name, fresh.output[2].name  # keys for values
    onnx.save(proto, path)
    reseal(folder)
    failed = verify(folder).failures()
    assert failed and all(row["check"].startswith("decoders merged: ") for row in failed)


def test_the_audit_allows_the_choice_in_this_graph_alone(translator, tmp_path):
    folder = shutil.copytree(translator[1], tmp_path / "bundle")
    bundle = read_bundle(folder)

    def faults():
        return [check for check in audit(bundle, bundle.find("onnx")).checks if not check[3]]

    assert faults() == []
    shutil.copy(folder / "onnx" / "decoder_model_merged.onnx", folder / "onnx" / "decoder_model.onnx")
    fault, = faults()
    assert fault[0] == "audit: no control flow" and "decoder_model.onnx: If" in fault[4]


def test_equal_weights_of_any_name_share_a_place(tmp_path):
    table, other = np.arange(600, dtype="float32"), np.arange(2000, dtype="uint8")

    def model(arrays):
        values = {name: ir.Value(name=name, const_value=ir.tensor(array, name=name), shape=ir.Shape(array.shape),
                                 type=ir.TensorType(ir.tensor(array).dtype)) for name, array in arrays.items()}
        nodes = [ir.node("Identity", [value]) for value in values.values()]
        for node in nodes:
            node.outputs[0].name, node.outputs[0].type = f"{node.inputs[0].name}_out", node.inputs[0].type
            node.outputs[0].shape = node.inputs[0].shape
        graph = ir.Graph([], [node.outputs[0] for node in nodes], nodes=nodes, initializers=list(values.values()),
                         opset_imports={"": 18}, name="g")
        return ir.Model(graph, ir_version=10)

    files = save_together([model({"a": other, "b": table}), model({"c": table.copy(), "d": table + 1})],
                          [tmp_path / "x.onnx", tmp_path / "y.onnx"])
    assert [path.name for path in files] == ["x.onnx", "y.onnx", "y.onnx_data"]
    assert files[-1].stat().st_size == 2 * table.nbytes + other.nbytes
    found = {}
    for path in files[:2]:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found.update(zip((value.name for value in session.get_outputs()), session.run(None, {}), strict=True))
    for name, array in {"a_out": other, "b_out": table, "c_out": table, "d_out": table + 1}.items():
        np.testing.assert_array_equal(found[name], array)

"""The rules of what artifacts are made of: exports keep them, and each kind of fault is caught."""
import os
import shutil
import subprocess
import sys

import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from onnx import TensorProto, helper

from kzoo.errors import CheckFailed
from kzoo.export import read_bundle, verify
from kzoo.export.artifact import PATHS, Artifact, Bundle
from kzoo.export.audit import RULES, audit
from kzoo.export.onnx_model import OnnxTarget


def audited(folder, runtime, *files, allowed=()):
    artifact = Artifact(runtime, "none", files[0], files)
    with pytest.MonkeyPatch.context() as patch:
        rules, usual = RULES[runtime]
        patch.setitem(RULES, runtime, (rules, (*usual, *allowed)))
        return audit(Bundle(folder, {}, {}, (artifact,)), artifact)


def failures(found):
    return [check.removeprefix("audit: ") for check, _, _, passed, _ in found.checks if not passed]


def test_every_runtime_has_its_rules():
    assert set(RULES) == set(PATHS)


def test_exports_are_audited_and_say_what_they_are_made_of(exported):
    for artifact in read_bundle(exported[0]).artifacts:
        rows = [row for row in artifact.verification["rows"] if row["check"].startswith("audit")]
        assert len(rows) == {"keras": 0, "savedmodel": 2, "onnx": 5, "tflite": 5}[artifact.runtime]
        assert all(row["passed"] and row["value"] == 0 and row["note"] for row in rows)
        assert ("operators" in artifact.record) == bool(rows)
        assert not sys.platform.startswith("linux") or artifact.record["memory"] > 1e5
    assert artifact.runtime == "tflite"
    assert set(artifact.record["arena"]) == {"decode", "prefill_8", "prefill_32"}
    assert artifact.record["operators"]["FULLY_CONNECTED"] > 10 and artifact.record["delegates"]["xnnpack"]


# TFLite: one thing changed in an exported file.

def code_of(model, kind):
    number = getattr(schema.BuiltinOperator, kind)
    return next(code for code in model.operatorCodes if number == max(code.builtinCode, code.deprecatedBuiltinCode))


def rename(old, new):
    def change(model):
        code = code_of(model, old)
        code.builtinCode = getattr(schema.BuiltinOperator, new)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    return change


def change_tensor(place, **fields):
    """Of the first signature: the first input, or what its second operator makes."""
    def change(model):
        graph = model.subgraphs[0]
        number = graph.inputs[0] if place == "input" else graph.operators[1].outputs[0]
        for name, value in fields.items():
            setattr(graph.tensors[number], name, value)
    return change


def make_custom(model):
    """The first GELU of the first signature becomes an operator of TensorFlow's."""
    gelu = model.operatorCodes.index(code_of(model, "GELU"))
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"FlexErf"
    model.operatorCodes.append(code)
    next(each for each in model.subgraphs[0].operators if each.opcodeIndex == gelu).opcodeIndex = (
        len(model.operatorCodes) - 1)


def write_changed(exported, path, *changes):
    model = flatbuffer_utils.read_model(str(exported[0] / "tflite/model.tflite"))
    for change in changes:
        change(model)
    flatbuffer_utils.write_model(model, str(path))


FREE_SHAPE = change_tensor("result", shapeSignature=[-1, 1])


@pytest.mark.parametrize(("change", "check", "named"), [
    (make_custom, "builtin operators only", "decode: FlexErf"),
    (change_tensor("input", type=schema.TensorType.INT64), "no numbers of 64 bits", "is INT64"),
    (change_tensor("result", type=schema.TensorType.FLOAT64), "no numbers of 64 bits", "is FLOAT64"),
    (FREE_SHAPE, "fixed shapes", "has the shape (-1, 1)"),
    (change_tensor("result", isVariable=True), "no variables", "decode: "),
    (change_tensor("result", type=schema.TensorType.RESOURCE), "no variables", "decode: "),
    (rename("GELU", "READ_VARIABLE"), "no variables", "READ_VARIABLE"),
    (rename("GELU", "WHILE"), "no control flow", "decode: WHILE")])
def test_a_fault_of_a_tflite_file_is_caught(exported, tmp_path, change, check, named):
    write_changed(exported, tmp_path / "model.tflite", change)
    found = audited(tmp_path, "tflite", "model.tflite")
    assert failures(found) == [check]
    row = next(row for row in found.checks if not row[3])
    assert row[1] >= 1 and row[2] == 0 and named in row[4]


def test_an_unchanged_tflite_file_passes(exported, tmp_path):
    write_changed(exported, tmp_path / "model.tflite")
    assert failures(audited(tmp_path, "tflite", "model.tflite")) == []


def test_operators_of_tokenizers_are_allowed_by_name(exported, tmp_path):
    """What has a tokenizer inside has shapes that depend on the text; all else stays a fault."""
    allow = {"allowed": ["FlexErf"]}
    write_changed(exported, tmp_path / "model.tflite", make_custom, FREE_SHAPE)
    found = audited(tmp_path, "tflite", "model.tflite", **allow)
    assert failures(found) == [] and "FlexErf as asked" in found.checks[0][4]
    assert failures(audited(tmp_path, "tflite", "model.tflite", allowed=["FlexTanh"])) == [
        "builtin operators only", "fixed shapes"]
    write_changed(exported, tmp_path / "model.tflite", make_custom, change_tensor("result", isVariable=True))
    assert failures(audited(tmp_path, "tflite", "model.tflite", **allow)) == ["no variables"]
    write_changed(exported, tmp_path / "model.tflite", FREE_SHAPE)
    assert failures(audited(tmp_path, "tflite", "model.tflite", **allow)) == ["fixed shapes"]


@pytest.mark.parametrize("size", [0, 3, 1000, 20_000])
@pytest.mark.parametrize(("runtime", "name"), [("tflite", "tflite/model.tflite"), ("onnx", "onnx/model.onnx"),
                                               ("savedmodel", "saved_model/1/saved_model.pb")])
def test_a_file_that_cannot_be_read_is_a_fault(exported, tmp_path, runtime, name, size):
    (tmp_path / "cut").mkdir()
    path = f"cut/{os.path.basename(name)}"
    (tmp_path / path).write_bytes((exported[0] / name).read_bytes()[:size])
    if size == 0 and runtime != "tflite":
        (tmp_path / path).write_bytes(b"\xff" * 20)  # for protobuf, no bytes are an empty message
    (check, value, _, passed, note), = audited(tmp_path, runtime, path).checks
    assert (check, value, passed) == ("audit", None, False) and f"{path} cannot be read" in note


# ONNX: small graphs y = f(x).

def make_model(*nodes, opsets=(("", 18),), initializers=(), functions=()):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], initializer=initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(*each) for each in opsets], functions=functions)


def branch(op_type="Identity", domain=""):
    result = helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])
    return helper.make_graph([helper.make_node(op_type, ["x"], ["z"], domain=domain)], "branch", [], [result])


def outside(location, length=8, name="weight"):
    """A constant whose numbers lie in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "4"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


IDENTITY = helper.make_node("Identity", ["x"], ["y"])
DOUBLE = helper.make_function("own", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
                              [helper.make_opsetid("", 18)])
OWN = (("", 18), ("own", 1))
IF = helper.make_node("If", ["c"], ["y"], "choice", then_branch=branch(), else_branch=branch())
NESTED = helper.make_node("If", ["c"], ["y"], "choice", then_branch=branch("Spin", "acme"), else_branch=branch())
YES = helper.make_tensor("c", TensorProto.BOOL, [], [True])


@pytest.mark.parametrize(("model", "caught"), [
    (make_model(IDENTITY), []),
    (make_model(helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft"),
                opsets=(("ai.onnx", 18), ("com.microsoft", 1))), []),
    (make_model(helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")), ["opset"]),
    (make_model(IDENTITY, opsets=(("", 11),)), ["opset"]),
    (make_model(helper.make_node("Spin", ["x"], ["y"], domain="acme"), opsets=(("", 18), ("acme", 1))),
     ["known operators only"]),
    (make_model(IF, initializers=[YES]), ["no control flow"]),
    (make_model(NESTED, opsets=(("", 18), ("acme", 1)), initializers=[YES]),
     ["known operators only", "no control flow"]),
    (make_model(helper.make_node("Double", ["x"], ["y"], domain="own"), opsets=OWN, functions=[DOUBLE]), []),
    (make_model(IDENTITY, opsets=OWN, functions=[DOUBLE]), ["no dangling functions"]),
    (make_model(helper.make_node("Triple", ["x"], ["y"], domain="own"), opsets=OWN, functions=[DOUBLE]),
     ["known operators only", "no dangling functions"]),
    (make_model(IDENTITY, initializers=[outside("model.onnx_data")]), []),
    (make_model(IDENTITY, initializers=[outside("model.onnx_data", length=9)]), ["data inside the bundle"]),
    (make_model(IDENTITY, initializers=[outside("unlisted")]), ["data inside the bundle"]),
    (make_model(IDENTITY, initializers=[outside("../elsewhere")]), ["data inside the bundle"]),
    (make_model(IDENTITY, initializers=[outside("../onnx/model.onnx_data")]), ["data inside the bundle"]),
    (make_model(IDENTITY, initializers=[outside(os.path.abspath(os.sep + "elsewhere"))]), ["data inside the bundle"]),
    (make_model(helper.make_node("Constant", [], ["y"], value=outside("../elsewhere"))), ["data inside the bundle"]),
])
def test_onnx_files_are_held_to_the_rules(tmp_path, model, caught):
    folder = tmp_path / "bundle"
    (folder / "onnx").mkdir(parents=True)
    for path in (folder / "onnx/model.onnx_data", folder / "onnx/unlisted", folder / "elsewhere"):
        path.write_bytes(bytes(12))
    (folder / "onnx/model.onnx").write_bytes(model.SerializeToString())
    names = ("onnx/model.onnx", "onnx/model.onnx_data")
    assert failures(audited(folder, "onnx", *names)) == caught
    allowed = audited(folder, "onnx", *names, allowed=["If", "Spin", "Triple"])
    assert not {"no control flow", "known operators only"} & set(failures(allowed))
    assert "known operators only" not in failures(audited(folder, "onnx", *names, allowed=["acme", "own"]))


def test_operators_are_counted_by_domain(tmp_path):
    twice = make_model(helper.make_node("Gelu", ["x"], ["h"], domain="com.microsoft"),
                       helper.make_node("Gelu", ["h"], ["y"]), opsets=(("", 18), ("com.microsoft", 1)))
    (tmp_path / "model.onnx").write_bytes(twice.SerializeToString())
    found = audited(tmp_path, "onnx", "model.onnx")
    assert found.record == {"operators": {"com.microsoft.Gelu": 1, "Gelu": 1}}
    assert "1 of the standard and 1 of com.microsoft" in found.checks[0][4]


# SavedModels.

@pytest.mark.parametrize(("op", "caught"), [("Tanh", []), ("EagerPyFunc", ["no calls of Python"]),
                                            ("FastBertNormalize", ["no custom operators"])])
def test_saved_models_are_held_to_the_rules(exported, tmp_path, op, caught):
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel.FromString((exported[0] / "saved_model/1/saved_model.pb").read_bytes())
    functions = model.meta_graphs[0].graph_def.library.function
    next(node for function in functions for node in function.node_def if node.op == "Tanh").op = op
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    found = audited(tmp_path, "savedmodel", "saved_model.pb")
    assert failures(found) == caught and found.record["operators"][op] >= 1
    assert "no custom operators" not in failures(
        audited(tmp_path, "savedmodel", "saved_model.pb", allowed=["FastBertNormalize"]))


# The whole way.

def choose_logits(path):
    """Pass the logits through an If: the file is as right as before."""
    model = onnx.load(path)
    for node in model.graph.node:
        node.output[:] = ["x" if name == "logits" else name for name in node.output]
    model.graph.initializer.append(YES)
    model.graph.node.append(helper.make_node("If", ["c"], ["logits"], then_branch=branch(), else_branch=branch()))
    for each in model.graph.node[-1].attribute:
        each.g.output[0].type.CopyFrom(next(end for end in model.graph.output if end.name == "logits").type)
    onnx.save(model, path)


def test_an_export_that_fails_its_audit_leaves_nothing(model, exported, export_here, tmp_path, monkeypatch):
    def write(target, model, folder, quantize="none"):
        (folder / "onnx").mkdir()
        shutil.copy(exported[0] / "onnx/model.onnx", folder / "onnx")
        if broken:
            choose_logits(folder / "onnx/model.onnx")
        return ["onnx/model.onnx"]

    monkeypatch.setattr(OnnxTarget, "write", write)
    broken = True
    with pytest.raises(CheckFailed, match="onnx failed verification: audit: no control flow: onnx/model.onnx: If '.*. "
                                          "Nothing was kept"):
        export_here(model, tmp_path / "b", formats="onnx")
    assert list(tmp_path.iterdir()) == []
    broken = False
    export_here(model, tmp_path / "b", formats="onnx")


def test_verification_audits_again(bundle, reseal):
    choose_logits(bundle / "onnx/model.onnx")
    reseal(bundle)
    assert [row["check"] for row in verify(bundle, runtimes=["onnx"]).failures()] == ["audit: no control flow"]


@pytest.mark.parametrize(("runtime", "package"), [("onnx", "onnx"), ("tflite", "ai_edge_litert"),
                                                  ("savedmodel", "tensorflow")])
def test_what_cannot_be_checked_here_is_said(exported, monkeypatch, runtime, package):
    bundle = read_bundle(exported[0])
    monkeypatch.setitem(sys.modules, package, None)
    found = audit(bundle, bundle.find(runtime))
    (check, _, _, passed, note), = found.checks
    assert passed is None and note.startswith(f"could not be checked: This needs the package {package}")
    assert "kzoo[" in note and found.record == {}


def test_neither_keras_nor_tensorflow_is_needed(exported):
    code = """if True:
        import sys
        from kzoo.export.artifact import read_bundle
        from kzoo.export.audit import audit
        bundle = read_bundle(sys.argv[1])
        for runtime in ("onnx", "tflite"):
            print(len(audit(bundle, bundle.find(runtime)).checks))
        print(sorted({"keras", "tensorflow", "onnxruntime"} & set(sys.modules)))"""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    done = subprocess.run([sys.executable, "-c", code, str(exported[0])], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": root})
    assert done.stdout.split("\n")[:3] == ["5", "5", "[]"], done.stderr

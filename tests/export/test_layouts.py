"""Servers' folders: what each server looks for, read as that server would."""
import os
import pathlib
import re
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest

from kzoo.export import open_bundle, read_bundle
from kzoo.export.artifact import Artifact
from kzoo.export.layouts import LAYOUTS, TRITON_DTYPES, check_layouts, describe_layouts, write_layouts
from kzoo.export.signatures import signatures


@pytest.fixture(scope="module")
def served(exported, tmp_path_factory):
    """A copy of the bundle with all layouts."""
    folder = shutil.copytree(exported[0], tmp_path_factory.mktemp("served") / "bundle")
    write_layouts(folder, "my_model", read_bundle(folder).artifacts, LAYOUTS)
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def read_config(path):
    """(name, dict side -> rows of name, dtype, dims) of a config.pbtxt."""
    text = pathlib.Path(path).read_text()
    assert 'backend: "onnxruntime"' in text and "max_batch_size: 0" in text
    sides = dict(re.findall(r"^(input|output) \[\n(.*?)\n\]", text, re.MULTILINE | re.DOTALL))
    row = re.compile(r'\{ name: "(\S+)" data_type: (TYPE_\w+) dims: \[ ([-\d, ]+) \] \}')
    for rows in sides.values():
        assert len(row.findall(rows)) == rows.count("\n") + 1 == rows.count("{")
    return re.search(r'^name: "(.*)"', text)[1], {
        side: [(name, dtype, [int(size) for size in dims.split(",")]) for name, dtype, dims in row.findall(rows)]
        for side, rows in sides.items()}


def stated(session, side):
    """What an ONNX file says itself, as Triton writes it."""
    dtypes = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}
    return [(each.name, dtypes[each.type], [size if isinstance(size, int) else -1 for size in each.shape])
            for each in getattr(session, f"get_{side}s")()]


def test_every_server_finds_its_files(served):
    saved_model = {"saved_model.pb", "fingerprint.pb", "variables/variables.index",
                   "variables/variables.data-00000-of-00001"}
    assert files(served / "triton") == {"my_model/config.pbtxt", "my_model/1/model.onnx"}
    assert files(served / "tfserving") == {f"my_model/1/{name}" for name in saved_model}
    assert files(served / "kserve") == {
        "my-model-onnx/inference_service.yaml", "my-model-savedmodel/inference_service.yaml",
        "my-model-onnx/storage/my_model/config.pbtxt", "my-model-onnx/storage/my_model/1/model.onnx",
        *(f"my-model-savedmodel/storage/1/{name}" for name in saved_model)}


def test_weights_lie_on_the_disk_once(served):
    for name in ("triton/my_model/1/model.onnx", "kserve/my-model-onnx/storage/my_model/1/model.onnx"):
        assert os.path.samefile(served / name, served / "onnx/model.onnx")
    assert os.path.samefile(served / "tfserving/my_model/1/variables/variables.index",
                            served / "saved_model/1/variables/variables.index")


def test_a_file_system_without_hard_links_gets_copies(bundle, monkeypatch):
    def refuse(source, place):
        raise OSError("not supported")
    monkeypatch.setattr(os, "link", refuse)
    write_layouts(bundle, "m", read_bundle(bundle).artifacts, ["triton"])
    copy = bundle / "triton/m/1/model.onnx"
    assert copy.read_bytes() == (bundle / "onnx/model.onnx").read_bytes()
    assert not os.path.samefile(copy, bundle / "onnx/model.onnx")


def test_triton_is_told_what_the_graph_says(served):
    name, rows = read_config(served / "triton/my_model/config.pbtxt")
    session = onnxruntime.InferenceSession(str(served / "triton/my_model/1/model.onnx"))
    assert name == "my_model"
    for side in ("input", "output"):
        assert sorted(rows[side]) == sorted(stated(session, side))
    assert ("past_key_values.1.value", "TYPE_FP32", [-1, 3, -1, 5]) in rows["input"]


def test_triton_itself_reads_the_config(served):
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="tritonclient is not here")
    from google.protobuf import text_format

    config = text_format.Parse((served / "triton/my_model/config.pbtxt").read_text(), schema.ModelConfig())
    rows = read_config(served / "triton/my_model/config.pbtxt")[1]
    for side in ("input", "output"):
        assert [(each.name, schema.DataType.Name(each.data_type), list(each.dims))
                for each in getattr(config, side)] == rows[side]
    assert set(TRITON_DTYPES.values()) <= set(schema.DataType.keys())


def test_tensorflow_serving_answers_as_the_session_does(served):
    import tensorflow as tf

    inputs = {"token_ids": np.array([[5, 3, 2]], "int32"), "padding_mask": np.array([[True, True, False]])}
    found = tf.saved_model.load(str(served / "tfserving/my_model/1")).signatures["serving_default"](
        **{name: tf.constant(value) for name, value in inputs.items()})["logits"].numpy()
    expected = open_bundle(served, runtime="savedmodel").run("forward", inputs)["logits"]
    np.testing.assert_array_equal(found, expected)
    assert np.ptp(expected) > 1


@pytest.mark.parametrize(("name", "runtime", "protocol", "format"), [
    ("my-model-onnx", "kserve-tritonserver", "v2", "onnx"),
    ("my-model-savedmodel", "kserve-tensorflow-serving", "v1", "tensorflow")])
def test_kserve_is_told_which_server_reads_the_folder(served, name, runtime, protocol, format):
    yaml = pytest.importorskip("yaml")
    service = yaml.safe_load((served / "kserve" / name / "inference_service.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert service["metadata"]["name"] == name and re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    model = service["spec"]["predictor"]["model"]
    assert model == {"runtime": runtime, "protocolVersion": protocol, "modelFormat": {"name": format},
                     "storageUri": f"pvc://models/{name}"}


def test_each_graph_and_variant_is_a_model(tmp_path):
    sizes = {"vocabulary_size": 61, "source_vocabulary_size": 67, "max_sequence_length": 0, "static_length": 512,
             "num_layers": 2, "num_key_value_heads": 3, "head_dim": 5, "hidden_dim": 15}
    forms = {name: form.to_dict() for name, form in signatures("translation", "onnx", sizes).items()}
    names = [f"onnx/{form['file_name']}_int8.onnx" for form in forms.values()]
    (tmp_path / "onnx").mkdir()
    for name in names:
        (tmp_path / name).write_text(name)
    artifact = Artifact("onnx", "int8", names[0], tuple(names), forms)
    write_layouts(tmp_path, "m", [artifact], ["triton", "kserve"])
    models = ["m_encoder_model_int8", "m_decoder_model_int8", "m_decoder_with_past_model_int8"]
    for model, name in zip(models, names, strict=True):
        for top in ("triton", "kserve/m-onnx-int8/storage"):
            assert (tmp_path / top / model / "1/model.onnx").read_text() == name
            assert read_config(tmp_path / top / model / "config.pbtxt")[0] == model
    rows = read_config(tmp_path / "triton/m_encoder_model_int8/config.pbtxt")[1]
    assert rows == {"input": [("input_ids", "TYPE_INT64", [-1, -1]), ("attention_mask", "TYPE_INT64", [-1, -1])],
                    "output": [("last_hidden_state", "TYPE_FP32", [-1, -1, 15])]}


def test_a_graph_with_data_beside_it_is_a_folder(bundle):
    """As Triton wants models of several files; the graph names its data relative to itself."""
    name = "onnx/model_int8.onnx"
    onnx.save(onnx.load(bundle / "onnx/model.onnx"), bundle / name, save_as_external_data=True, size_threshold=256,
              location="model_int8.onnx_data")
    forms = read_bundle(bundle).find("onnx").signatures
    write_layouts(bundle, "m", [Artifact("onnx", "int8", name, (name, f"{name}_data"), forms)], ["triton"])
    folder = bundle / "triton/m_int8/1/model.onnx"
    assert files(folder) == {"model.onnx", "model_int8.onnx_data"}
    shutil.rmtree(bundle / "onnx")
    onnxruntime.InferenceSession(str(folder / "model.onnx"))


def test_layouts_are_checked():
    assert check_layouts("triton", ["onnx"]) == ("triton",)
    assert check_layouts(["kserve", "triton", "kserve"], ["tflite", "onnx"]) == ("kserve", "triton")
    assert check_layouts((), []) == ()
    with pytest.raises(ValueError, match="Unknown layout 'trition'. Did you mean 'triton'"):
        check_layouts(["trition"], ["onnx"])
    with pytest.raises(ValueError, match="'tfserving' needs the format 'savedmodel', and .* has only onnx, tflite"):
        check_layouts(["tfserving"], ["onnx", "tflite"])
    with pytest.raises(ValueError, match="'kserve' needs the format 'onnx' or 'savedmodel'"):
        check_layouts(["kserve"], ["tflite"])


def test_the_readme_says_how_servers_start(served):
    text = describe_layouts(files(served))
    for words in ("`triton/` holds my_model:", "--model-repository=$PWD/triton",
                  "--model_base_path=$PWD/tfserving/my_model", "`kserve/` holds my-model-onnx, my-model-savedmodel:",
                  "kserve/my-model-onnx/inference_service.yaml"):
        assert words in text
    assert describe_layouts(["onnx/model.onnx", "config.json"]) == ""

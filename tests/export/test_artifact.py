"""Manifests and files: sound ones open, damaged and hostile ones are refused by name."""
import json
import math
import os

import pytest

from kzoo.export import open_bundle, read_bundle
from kzoo.export.artifact import list_files, main_file, sha256_of
from kzoo.export.manifest import write_manifest
from kzoo.export.signatures import signatures

SIZES = {"num_layers": 2, "num_key_value_heads": 3, "head_dim": 5, "vocabulary_size": 7, "max_sequence_length": 17,
         "static_length": 17}


def make_bundle(folder, **changes):
    """A bundle whose model file is no model: enough for everything that comes before opening it."""
    for name, content in (("onnx/model.onnx", b"graph"), ("onnx/model_int8.onnx", b"small"), ("config.json", b"{}"),
                          ("README.md", b"words")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    manifest = {
        "format": 1, "task": "text-generation", "sizes": SIZES, "settings": {},
        "files": [{"path": name, "size": size, "sha256": digest}
                  for name, (size, digest) in list_files(folder).items()],
        "artifacts": [{"runtime": "onnx", "variant": variant, "file": main_file("onnx", variant),
                       "files": [main_file("onnx", variant)], "verified": True, "verification": {"passed": True},
                       "signatures": {"decode": signatures("text-generation", "onnx", SIZES)["decode"].to_dict()}}
                      for variant in ("none", "int8")],
        **changes}
    write_manifest(folder, manifest)
    return folder


def edited(folder, edit):
    """With a manifest that somebody changed who knows how to seal it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    write_manifest(folder, manifest)
    return folder


def test_a_sound_bundle_opens(tmp_path):
    bundle = read_bundle(make_bundle(tmp_path))
    assert [artifact.name for artifact in bundle.artifacts] == ["onnx", "onnx int8"]
    assert bundle.find("onnx", "int8").file == "onnx/model_int8.onnx"
    assert bundle.find().variant == "none"
    assert bundle.shared_files() == ["config.json"]
    bundle.check_files(bundle.files)
    assert os.fspath(bundle) == str(tmp_path)


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2


@pytest.mark.parametrize(("content", "message"), [
    (b"grapg", "sha256 is not"), (b"graphs", "6 bytes, the manifest says 5"), (None, "missing")])
def test_a_damaged_file_is_refused_by_name(tmp_path, content, message):
    make_bundle(tmp_path)
    if content is None:
        (tmp_path / "onnx/model.onnx").unlink()
    else:
        (tmp_path / "onnx/model.onnx").write_bytes(content)
    with pytest.raises(ValueError, match=f"model.onnx.*{message}"):
        open_bundle(tmp_path, "onnx")
    with pytest.raises(ValueError, match="does not open"):  # only what is needed is checked; this one is sound
        open_bundle(tmp_path, "onnx", "int8")


def test_a_damaged_shared_file_is_refused(tmp_path):
    (make_bundle(tmp_path) / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="config.json is damaged"):
        open_bundle(tmp_path, "onnx")


def test_a_link_out_of_the_bundle_is_refused(tmp_path):
    folder = make_bundle(tmp_path / "bundle")
    secret = tmp_path / "secret"
    secret.write_bytes(b"graph")
    (folder / "onnx/model.onnx").unlink()
    (folder / "onnx/model.onnx").symlink_to(secret)
    with pytest.raises(ValueError, match="leaves the bundle"):
        open_bundle(folder, "onnx")


def test_a_folder_that_is_a_link_out_of_the_bundle_is_refused(tmp_path):
    folder = make_bundle(tmp_path / "bundle")
    (folder / "onnx").rename(tmp_path / "elsewhere")
    (folder / "onnx").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(ValueError, match="model.onnx is a link that leaves the bundle"):
        open_bundle(folder, "onnx")


def test_a_name_that_no_system_takes_is_a_missing_file(tmp_path):
    folder = make_bundle(tmp_path)
    edited(folder, lambda manifest: manifest["files"].append(
        {"path": "/".join(["x" * 200] * 20), "size": 1, "sha256": "0" * 64}))
    bundle = read_bundle(folder)
    assert "is missing" in bundle.file_problem(list(bundle.files)[-1])


def test_a_pipe_in_the_place_of_a_file_is_no_wait_without_end(tmp_path):
    folder = make_bundle(tmp_path)
    (folder / "onnx/model.onnx").unlink()
    os.mkfifo(folder / "onnx/model.onnx")
    with pytest.raises(ValueError, match="model.onnx is missing"):
        open_bundle(folder, "onnx")


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "spiece.model", "added_tokens.json"])
def test_a_file_that_would_be_read_unlisted_is_refused(tmp_path, name):
    (make_bundle(tmp_path) / name).write_text("{}")
    with pytest.raises(ValueError, match=f"{name} is not listed by the manifest"):
        open_bundle(tmp_path, "onnx")


def test_what_nobody_reads_may_lie_in_a_bundle(tmp_path):
    folder = make_bundle(tmp_path)
    (folder / "notes.txt").write_text("mine")
    (folder / "onnx" / "notes.md").write_text("mine")
    with pytest.raises(ValueError, match="does not open"):  # the model file is none, but it was asked
        open_bundle(folder, "onnx")


def test_a_file_among_those_of_a_folder_is_refused(bundle):
    for name, runtime in (("saved_model/1/saved_model.cpb", "savedmodel"), ("keras/vocab.json", "keras")):
        (bundle / name).write_text("{}")
        with pytest.raises(ValueError, match=f"{name} is not listed by the manifest"):
            open_bundle(bundle, runtime)
    open_bundle(bundle, "onnx")  # which does not read them


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "onnx/../../secret", "C:/secret", "onnx\\model.onnx", ".",
                                  "onnx//model.onnx", "./model.onnx", "a\0b", "a\nb", "\ud800", "C:model.onnx",
                                  "\\\\server\\share", "onnx/.."])
def test_a_path_out_of_the_bundle_is_refused(tmp_path, path):
    folder = make_bundle(tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][0]["path"] = path
    (folder / "manifest.json").write_text(json.dumps(manifest))  # unsealed: fields are looked at first
    with pytest.raises(ValueError, match="relative path inside the bundle"):
        read_bundle(folder)


def set_field(*keys, value):
    def edit(manifest):
        place = manifest
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
    return edit


@pytest.mark.parametrize(("edit", "message"), [
    (set_field("format", value=2), "format 2"),
    (set_field("format", value=True), "`format` must be of type int, found bool"),
    (set_field("extra", value=1), "Unknown field 'extra'"),
    (set_field("kzoo", value=1), "`kzoo` must be of type str, found int"),
    (set_field("config", value=[]), "`config` must be of type dict, found list"),
    (set_field("task", value="singing"), "Unknown task"),
    (set_field("sizes", value=[]), "`sizes` must be of type dict"),
    (set_field("sizes", "num_layers", value=10**9), "`num_layers` must be from 1 to 10000, found 1000000000"),
    (set_field("sizes", "num_layers", value=10**4000), "`num_layers` must be from 1 to 10000, found 1000"),
    (set_field("sizes", "num_layers", value=-1), "`num_layers` must be from 1"),
    (set_field("sizes", "num_layers", value=True), "`num_layers` must be of type int, found bool"),
    (set_field("sizes", "num_layers", value="2"), "`num_layers` must be of type int, found str"),
    (set_field("sizes", "num_layers", value=None), "`num_layers` must be of type int, found NoneType"),
    (set_field("sizes", "num_layers", value=math.nan), "NaN is not a finite number"),
    (set_field("sizes", "num_layers", value=math.inf), "Infinity is not a finite number"),
    (set_field("sizes", "vocabulary_size", value=2**31), "`vocabulary_size` must be from 1 to 2147483647"),
    (set_field("sizes", "num_labels", value=2), "Unknown field 'num_labels'"),
    (set_field("sizes", "head_dim", value=0), "`head_dim` must be from 1"),
    (set_field("sizes", "max_sequence_length", value=0), "`max_sequence_length` must be from 1"),
    (set_field("sizes", "static_length", value=18), "`static_length` must be at most `max_sequence_length`, 17"),
    (set_field("sizes", "head_dim", value=2.5), "`head_dim` must be of type int, found float"),
    (set_field("files", value={}), "`files` must be of type list"),
    (set_field("files", 0, value="config.json"), "expected an object"),
    (set_field("files", 0, "size", value=-1), "`size` must be from 0"),
    (set_field("files", 0, "size", value=2**60), "`size` must be from 0"),
    (set_field("files", 0, "sha256", value="z" * 64), "`sha256` must be 64 hexadecimal digits"),
    (set_field("files", 0, "sha256", value="A" * 64), "`sha256` must be 64 hexadecimal digits"),
    (set_field("files", 0, "mode", value=7), "Unknown field 'mode'"),
    (set_field("files", 0, "path", value="x" * 300), "a name of more than 255 bytes"),
    (set_field("files", 1, "path", value="README.md"), "twice"),
    (set_field("artifacts", 0, "runtime", value="onxx"), "Did you mean 'onnx'"),
    (set_field("artifacts", 0, "files", value=["other.onnx"]), "which `files` does not list"),
    (set_field("artifacts", 0, "files", value=[3]), "`files` must be a list of texts"),
    (set_field("artifacts", 0, "seed", value=3), "Unknown field 'seed'"),
    (set_field("artifacts", 0, "verification", "passed", value="yes"), "`passed` must be of type bool, found str"),
    (set_field("artifacts", 0, "variant", value="../int8"), "`variant` must be a plain name"),
    (set_field("artifacts", 0, "variant", value="fp16"), "must be 'onnx/model_fp16.onnx', found 'onnx/model.onnx'"),
    (set_field("artifacts", 0, "file", value="onnx/model_int8.onnx"), "must be 'onnx/model.onnx', found"),
    (set_field("artifacts", 0, "signatures", "decode", value=3), "`decode` must be of type dict"),
    (set_field("artifacts", 0, "signatures", "decode", "file_name", value="x"), "`file_name` of the signature"),
    (set_field("artifacts", 0, "signatures", "decode", "inputs", 0, "dtype", value="float64"),
     "`inputs` of the signature 'decode' of 'onnx/model.onnx' must hold .*'int64'.*found .*'float64'"),
    (set_field("artifacts", 0, "signatures", "decode", "outputs", 0, "shape", value=[1, 2, 2**31]),
     "`outputs` of the signature 'decode'"),
    (lambda manifest: manifest["artifacts"][0]["signatures"]["decode"]["inputs"].append({}),
     "must hold None, found {}"),
    (set_field("artifacts", 0, "file", value="../model.onnx"), "relative path"),
    (set_field("artifacts", 0, "files", value=["config.json"]), "none of its own files"),
    (lambda manifest: manifest["artifacts"].append(manifest["artifacts"][0]), "lists one twice"),
    *((lambda manifest, name=name: manifest.pop(name), f"`{name}` is missing")
      for name in ("format", "task", "sizes", "settings", "files", "artifacts")),
    *((lambda manifest, name=name: manifest["artifacts"][0].pop(name), f"`{name}` is missing")
      for name in ("runtime", "variant", "file", "files", "signatures", "verification")),
    *((lambda manifest, name=name: manifest["sizes"].pop(name), f"`{name}` is missing") for name in SIZES),
    *((lambda manifest, name=name: manifest["files"][0].pop(name), f"`{name}` is missing")
      for name in ("path", "size", "sha256")),
])
def test_a_hostile_manifest_is_refused(tmp_path, edit, message):
    folder = make_bundle(tmp_path)
    read_bundle(folder)  # sound before
    with pytest.raises(ValueError, match=message) as error:
        read_bundle(edited(folder, edit))
    assert "manifest.json" in str(error.value) and len(str(error.value)) < 1000


TRANSLATOR = {"num_layers": 2, "num_key_value_heads": 3, "head_dim": 5, "hidden_dim": 15, "vocabulary_size": 7,
              "source_vocabulary_size": 11, "max_sequence_length": 0, "max_target_length": 0, "static_length": 13}


@pytest.mark.parametrize(("edit", "message"), [
    (set_field("settings", "decoder_start_id", value=7), "`decoder_start_id` must be from 0 to 6, found 7"),
    (set_field("settings", "decoder_start_id", value="0"), "`decoder_start_id` must be of type int, found str"),
    (set_field("settings", "eos_id", value=-1), "`eos_id` must be from 0 to 10"),
    (set_field("settings", "generation_defaults", value={"num_beams": 0}), "`generation_defaults`: `num_beams`"),
    (set_field("settings", "generation_defaults", value={"beams": 3}), "`generation_defaults`: Unknown"),
    (set_field("settings", "generation_defaults", value={"top_p": "x"}), "`generation_defaults`: `top_p`"),
    (lambda manifest: manifest["settings"].pop("eos_id"), "`eos_id` is missing"),
    (set_field("sizes", "static_length", value=0), "`static_length` must be from 1"),
])
def test_settings_that_a_translator_cannot_have_are_refused(tmp_path, edit, message):
    settings = {"decoder_start_id": 0, "eos_id": 1, "generation_defaults": {"eos_token_id": 1, "suppress_tokens": [0]}}
    folder = make_bundle(tmp_path, task="translation", sizes=TRANSLATOR, settings=settings, artifacts=[])
    assert read_bundle(folder).sizes["max_sequence_length"] == 0  # no limit
    with pytest.raises(ValueError, match=message) as error:
        read_bundle(edited(folder, edit))
    assert "manifest.json" in str(error.value)


def test_what_is_no_manifest_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a folder"):
        read_bundle(tmp_path / "missing")
    with pytest.raises(FileNotFoundError, match="not a bundle"):
        read_bundle(tmp_path)
    make_bundle(tmp_path)
    for text, message in (("{", "not valid JSON"), ("[]", "JSON object"), (" " * (2**24 + 1), "no bundle needs more")):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_bundle(tmp_path)


def test_sizes_that_are_not_those_of_the_file_are_refused(bundle):
    open_bundle(bundle, "tflite")
    with pytest.raises(ValueError, match="of the signature 'prefill' of 'saved_model/1' must hold"):
        open_bundle(edited(bundle, set_field("sizes", "head_dim", value=2**31 - 1)), "tflite")

    def forget(manifest):  # the manifest alone then holds no contradiction
        for row in manifest["artifacts"]:
            row["signatures"] = {}

    for size, found, wrong in (("head_dim", 5, 2**31 - 1), ("static_length", 53, 47)):
        edited(bundle, forget)
        folder = edited(bundle, set_field("sizes", size, value=wrong))
        for runtime in ("onnx", "tflite") if size == "head_dim" else ("tflite",):
            with pytest.raises(ValueError, match="not what the manifest describes"):
                open_bundle(folder, runtime)
        edited(bundle, set_field("sizes", size, value=found))
    open_bundle(bundle, "tflite")


def test_unknown_runtimes_and_variants_name_the_closest(tmp_path):
    make_bundle(tmp_path)
    with pytest.raises(ValueError, match="Unknown runtime 'onx'. Did you mean 'onnx'"):
        open_bundle(tmp_path, "onx")
    with pytest.raises(ValueError, match="nothing for the runtime 'tflite'. It has: onnx"):
        open_bundle(tmp_path, "tflite")
    with pytest.raises(ValueError, match="Unknown variant 'int-8'. Did you mean 'int8'"):
        open_bundle(tmp_path, "onnx", "int-8")


def test_files_are_called_as_other_programs_look_for_them():
    assert main_file("onnx", "none") == "onnx/model.onnx"
    assert main_file("onnx", "int8", "decoder_model_merged") == "onnx/decoder_model_merged_int8.onnx"
    assert main_file("onnx", "int4") == "onnx/model_q4.onnx"
    assert main_file("tflite", "int8") == "tflite/model_int8.tflite"

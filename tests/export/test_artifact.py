"""Manifests and files: sound ones open, damaged and hostile ones are refused by name."""
import json
import os

import pytest

from kzoo.export import open_bundle, read_bundle
from kzoo.export.artifact import list_files, main_file, sha256_of

SIZES = {"num_layers": 2, "num_key_value_heads": 3, "head_dim": 5, "vocabulary_size": 7, "max_sequence_length": 17}


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
                       "files": [main_file("onnx", variant)], "signatures": {}, "verification": {"passed": True}}
                      for variant in ("none", "int8")],
        **changes}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def edited(folder, edit):
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_sound_bundle_opens(tmp_path):
    bundle = read_bundle(make_bundle(tmp_path))
    assert [artifact.name for artifact in bundle.artifacts] == ["onnx", "onnx int8"]
    assert bundle.find("onnx", "int8").file == "onnx/model_int8.onnx"
    assert bundle.find().variant == "none"
    assert bundle.shared_files() == ["config.json"]
    bundle.check_files(bundle.files)
    assert os.fspath(bundle) == str(tmp_path)


def test_only_models_that_can_be_without_a_limit_may_say_so(tmp_path):
    sizes = {**SIZES, "hidden_dim": 15, "source_vocabulary_size": 7, "static_length": 512, "max_sequence_length": 0}
    assert read_bundle(make_bundle(tmp_path, sizes=sizes, task="translation")).sizes["max_sequence_length"] == 0
    with pytest.raises(ValueError, match="`max_sequence_length` must be from 1"):
        read_bundle(make_bundle(tmp_path, sizes=sizes))
    with pytest.raises(ValueError, match="`static_length` must be from 1"):
        read_bundle(make_bundle(tmp_path, sizes={**sizes, "static_length": 0}, task="translation"))


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


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "onnx/../../secret", "C:/secret", "onnx\\model.onnx", ".",
                                  "onnx//model.onnx", "./model.onnx", "a\0b"])
def test_a_path_out_of_the_bundle_is_refused(tmp_path, path):
    def edit(manifest):
        manifest["files"][0]["path"] = path
    with pytest.raises(ValueError, match="relative path inside the bundle"):
        read_bundle(edited(make_bundle(tmp_path), edit))


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
    (set_field("task", value="singing"), "Unknown task"),
    (set_field("sizes", value=[]), "`sizes` must be of type dict"),
    (set_field("sizes", "num_layers", value=10**20), "`num_layers` must be from 1"),
    (set_field("sizes", "head_dim", value=0), "`head_dim` must be from 1"),
    (set_field("sizes", "head_dim", value=2.5), "`head_dim` must be of type int, found float"),
    (set_field("files", value={}), "`files` must be of type list"),
    (set_field("files", 0, value="config.json"), "expected an object"),
    (set_field("files", 0, "size", value=-1), "`size` must be from 0"),
    (set_field("files", 0, "size", value=2**60), "`size` must be from 0"),
    (set_field("files", 0, "sha256", value="z" * 64), "not 64 hexadecimal digits"),
    (set_field("files", 1, "path", value="README.md"), "twice"),
    (set_field("artifacts", 0, "runtime", value="onxx"), "Did you mean 'onnx'"),
    (set_field("artifacts", 0, "files", value=["other.onnx"]), "which `files` does not list"),
    (set_field("artifacts", 0, "files", value=[3]), "which `files` does not list"),
    (set_field("artifacts", 0, "file", value="../model.onnx"), "relative path"),
    (set_field("artifacts", 0, "files", value=["config.json"]), "none of its own files"),
    (set_field("artifacts", 1, "variant", value="none"), "lists one twice"),
    (lambda manifest: manifest.pop("artifacts"), "`artifacts` is missing"),
])
def test_a_hostile_manifest_is_refused(tmp_path, edit, message):
    folder = make_bundle(tmp_path)
    read_bundle(folder)  # sound before
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
    for size, found in (("head_dim", 5), ("max_sequence_length", 53)):
        folder = edited(bundle, set_field("sizes", size, value=2**31 - 1))
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

"""The seal of a manifest: any byte that changes shows."""
import json
import pathlib

import numpy as np
import pytest

from kzoo.export.manifest import SEAL, open_manifest, write_manifest

MANIFEST = {"format": 1, "task": "fill-mask", "labels": ["ä", "0" * 64], "files": [{"sha256": "ab" * 32}]}


def open_sealed(folder):
    manifest, read = open_manifest(pathlib.Path(folder))
    read.seal(manifest)
    return manifest


def test_a_sealed_manifest_opens(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    manifest = open_sealed(tmp_path)
    assert list(manifest) == [*MANIFEST, SEAL] and manifest["labels"] == MANIFEST["labels"]
    first = (tmp_path / "manifest.json").read_bytes()
    write_manifest(tmp_path, manifest)  # a seal that is there already is made anew
    assert (tmp_path / "manifest.json").read_bytes() == first


def test_every_changed_byte_is_noticed(tmp_path):
    place = tmp_path / "manifest.json"
    write_manifest(tmp_path, MANIFEST)
    content, random = place.read_bytes(), np.random.default_rng(0)
    for number in range(len(content)):
        changed = bytearray(content)
        changed[number] ^= int(random.integers(1, 256))
        place.write_bytes(changed)
        with pytest.raises(ValueError, match=r"manifest\.json"):
            open_sealed(tmp_path)
    place.write_bytes(content)
    open_sealed(tmp_path)


@pytest.mark.parametrize("edit", [
    lambda text: text.replace(" ", "  ", 1), lambda text: text + "\n", lambda text: text.replace("fill", "full"),
    lambda text: text.replace("ab" * 32, "ba" * 32), lambda text: text.upper().replace("FORMAT", "format")])
def test_a_change_that_stays_json_is_noticed(tmp_path, edit):
    write_manifest(tmp_path, MANIFEST)
    place = tmp_path / "manifest.json"
    place.write_text(edit(place.read_text()))
    json.loads(place.read_text())
    with pytest.raises(ValueError, match=r"manifest\.json"):
        open_sealed(tmp_path)


def test_a_manifest_without_a_seal_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    with pytest.raises(ValueError, match="`manifest_sha256` is missing"):
        open_sealed(tmp_path)
    for seal in ("0" * 64, "A" * 64, 7):
        (tmp_path / "manifest.json").write_text(json.dumps({**MANIFEST, SEAL: seal}))
        with pytest.raises(ValueError, match=r"manifest\.json"):
            open_sealed(tmp_path)


@pytest.mark.parametrize("opening", ['{"a":', "["])
def test_a_nesting_without_end_is_refused(tmp_path, opening):
    (tmp_path / "manifest.json").write_text(opening * 300_000)
    with pytest.raises(ValueError, match="manifest.json is not valid JSON"):
        open_sealed(tmp_path)


def test_a_manifest_of_a_gigabyte_is_refused_unread(tmp_path):
    with open(tmp_path / "manifest.json", "wb") as file:
        file.truncate(2**30)  # of holes, which take no room
    with pytest.raises(ValueError, match="has 1073741824 bytes; no bundle needs more"):
        open_sealed(tmp_path)


def test_a_manifest_that_is_a_link_out_of_the_bundle_is_refused(tmp_path):
    (tmp_path / "bundle").mkdir()
    write_manifest(tmp_path, MANIFEST)
    (tmp_path / "bundle/manifest.json").symlink_to(tmp_path / "manifest.json")
    with pytest.raises(ValueError, match="leaves the bundle"):
        open_sealed(tmp_path / "bundle")

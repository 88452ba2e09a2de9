"""A bundle on the disk: its manifest, checked line by line, its files, their sizes and hashes."""
import dataclasses
import hashlib
import pathlib

from kzoo.errors import unknown
from kzoo.export.signature_tables import SIZES, TABLES
from kzoo.files import read_json

MANIFEST = "manifest.json"
GOLDEN = "verification.npz"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_COUNT = 2**31 - 1
MAX_LAYERS = 10_000
MAX_BYTES = 2**50

# Runtime -> the main file of an artifact, where variant "none" has no suffix.
PATHS = {
    "onnx": "onnx/{name}{suffix}.onnx",
    "tflite": "tflite/model{suffix}.tflite",
    "savedmodel": "saved_model{suffix}/1",
    "keras": "keras{suffix}",
    "onnx-text": "onnx/{name}{suffix}.onnx",  # those that take strings; see `kzoo.export.text_forms`
    "tflite-text": "tflite/{name}{suffix}.tflite",
    "savedmodel-text": "saved_model_text{suffix}/1",
}


@dataclasses.dataclass(frozen=True)
class Artifact:
    """One model in one file format.

    Attributes:
        runtime: what opens it, a key of `PATHS`.
        variant: its quantisation, "none" for float32.
        file: the main file or folder, relative to the bundle, with "/".
        files: every file of it, relative to the bundle.
        signatures: name -> what the file calls its inputs and outputs, as written.
        verification: dict of `passed` and `rows`.
        record: what the export measured: seconds, peak_memory (bytes), latency (see `kzoo.export.latency`).
    """
    runtime: str
    variant: str
    file: str
    files: tuple
    signatures: dict = dataclasses.field(default_factory=dict)
    verification: dict = dataclasses.field(default_factory=dict)
    record: dict = dataclasses.field(default_factory=dict)

    @property
    def name(self):
        """As reports call it: "onnx", "onnx int8"."""
        return self.runtime if self.variant == "none" else f"{self.runtime} {self.variant}"

    def to_dict(self):
        return {"runtime": self.runtime, "variant": self.variant, "file": self.file, "files": list(self.files),
                "verified": bool(self.verification.get("passed")), **self.record, "signatures": self.signatures,
                "verification": self.verification}


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An open bundle.

    Attributes:
        folder: where it is.
        manifest: the dict of manifest.json.
        files: path -> (size, sha256).
        artifacts: tuple of `Artifact`.
    """
    folder: pathlib.Path
    manifest: dict
    files: dict
    artifacts: tuple

    def __fspath__(self):
        return str(self.folder)

    @property
    def task(self):
        return self.manifest["task"]

    @property
    def sizes(self):
        return self.manifest["sizes"]

    @property
    def settings(self):
        """The task's own, such as its labels."""
        return self.manifest["settings"]

    def find(self, runtime=None, variant="none"):
        """The artifact for a runtime; None takes the first in the bundle's order.

        Raises: ValueError with the closest match if the bundle has no such artifact.
        """
        runtimes = list(dict.fromkeys(artifact.runtime for artifact in self.artifacts))
        if not runtimes:
            raise ValueError(f"{self.folder} holds no artifact.")
        runtime = runtime or next(name for name in ("onnx", "tflite", "savedmodel", "keras") if name in runtimes)
        if runtime not in PATHS:
            raise ValueError(unknown("runtime", runtime, PATHS))
        if runtime not in runtimes:
            raise ValueError(f"{self.folder} holds nothing for the runtime {runtime!r}. It has: {', '.join(runtimes)}.")
        found = {artifact.variant: artifact for artifact in self.artifacts if artifact.runtime == runtime}
        if variant not in found:
            raise ValueError(f"{self.folder}, runtime {runtime!r}: {unknown('variant', variant, found)}")
        return found[variant]

    def shared_files(self):
        """Files that no artifact owns and that running needs: configs and the tokenizer's."""
        owned = {path for artifact in self.artifacts for path in artifact.files}
        return [path for path in self.files
                if path not in owned and "/" not in path and not path.endswith((".html", ".md", ".npz"))]

    def check_files(self, paths):
        """Raise ValueError naming the first of `paths` whose size or hash is not the manifest's."""
        for path in paths:
            problem = self.file_problem(path)
            if problem:
                raise ValueError(problem)

    def file_problem(self, path):
        """What is wrong with one file, or None."""
        size, digest = self.files[path]
        place = self.folder / path
        if not place.is_file():
            return f"{place} is missing; the manifest lists it."
        if not place.resolve().is_relative_to(self.folder.resolve()):
            return f"{place} is a link that leaves the bundle; it is not opened."
        if place.stat().st_size != size:
            return (f"{place} is damaged: it has {place.stat().st_size} bytes, the manifest says {size}. "
                    "Export it again.")
        if sha256_of(place) != digest:
            return f"{place} is damaged: its sha256 is not the manifest's. Export it again."
        return None


def sha256_of(path):
    """Hexadecimal sha256 of a file, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def list_files(folder):
    """path -> (size, sha256) of everything in a folder but the manifest, sorted by path."""
    folder = pathlib.Path(folder)
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {path: ((folder / path).stat().st_size, sha256_of(folder / path)) for path in found if path != MANIFEST}


def main_file(runtime, variant, name="model"):
    """Where an artifact of this runtime and variant lies in a bundle; `name` is that of an ONNX graph."""
    return PATHS[runtime].format(name=name, suffix="" if variant == "none" else f"_{variant}")


def read_bundle(path):
    """Open a bundle's manifest and check every field of it; its files are checked where they are used.

    Raises: FileNotFoundError if there is none; ValueError naming the field that is wrong.
    """
    folder = pathlib.Path(path)
    place = folder / MANIFEST
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder. Give a bundle that `export` wrote.")
    if not place.is_file():
        raise FileNotFoundError(f"{folder} holds no {MANIFEST}: it is not a bundle.")
    if place.stat().st_size > MAX_MANIFEST_BYTES:
        raise ValueError(f"{place} has {place.stat().st_size} bytes; no bundle needs more than {MAX_MANIFEST_BYTES}.")
    manifest = read_json(place)
    read = _Reader(place)
    version = read.whole(manifest, "format")
    if version != FORMAT_VERSION:
        raise ValueError(f"{place} is of format {version}; this kzoo reads format {FORMAT_VERSION}.")
    task = read.text(manifest, "task")
    if task not in TABLES:
        raise ValueError(f"{place}: {unknown('task', task, TABLES)}")
    sizes = read.field(manifest, "sizes", dict)
    for name in SIZES[task]:
        unlimited = name == "max_sequence_length" and "static_length" in SIZES[task]  # 0 stands for that
        largest = MAX_LAYERS if name == "num_layers" else MAX_COUNT
        read.whole(sizes, name, smallest=0 if unlimited else 1, largest=largest)
    settings = read.field(manifest, "settings", dict)
    if "num_labels" in sizes:
        labels = read.field(settings, "labels", list)
        if len(labels) != sizes["num_labels"] or not all(isinstance(label, str) for label in labels):
            read.fail(f"`labels` must be {sizes['num_labels']} texts")
    files = {}
    for row in read.field(manifest, "files", list):
        name = read.path(row, "path")
        if name in files:
            read.fail(f"`files` lists {name!r} twice")
        digest = read.text(row, "sha256")
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            read.fail(f"`sha256` of {name!r} is not 64 hexadecimal digits")
        files[name] = (read.whole(row, "size", largest=MAX_BYTES), digest)
    artifacts = tuple(_read_artifact(read, row, files) for row in read.field(manifest, "artifacts", list))
    names = [artifact.name for artifact in artifacts]
    if len(set(names)) < len(names):
        read.fail("`artifacts` lists one twice")
    return Bundle(folder, manifest, files, artifacts)


def _read_artifact(read, row, files):
    runtime = read.text(row, "runtime")
    if runtime not in PATHS:
        read.fail(unknown("runtime", runtime, PATHS).rstrip("."))
    paths = read.field(row, "files", list)
    for path in paths:
        if not isinstance(path, str) or path not in files:
            read.fail(f"an artifact names the file {path!r}, which `files` does not list")
    main = read.path(row, "file")
    if not any(path == main or path.startswith(f"{main}/") for path in paths):
        read.fail(f"the artifact {main!r} has none of its own files")
    return Artifact(runtime, read.text(row, "variant"), main, tuple(paths), read.field(row, "signatures", dict),
                    read.field(row, "verification", dict),
                    {name: row[name] for name in ("seconds", "peak_memory", "latency") if name in row})


class _Reader:
    """Fields of a manifest by type; errors name the file and the field."""

    def __init__(self, place):
        self.place = place

    def fail(self, message):
        raise ValueError(f"{self.place}: {message}. The manifest is damaged or was edited by hand; export again.")

    def field(self, values, name, kind):
        if not isinstance(values, dict):
            self.fail(f"expected an object with `{name}`, found {type(values).__name__}")
        if name not in values:
            self.fail(f"`{name}` is missing")
        value = values[name]
        if type(value) is not kind:  # not isinstance: True is no number here
            self.fail(f"`{name}` must be of type {kind.__name__}, found {type(value).__name__}")
        return value

    def text(self, values, name):
        value = self.field(values, name, str)
        if not value or len(value) > 4096:
            self.fail(f"`{name}` must be a short text")
        return value

    def whole(self, values, name, smallest=0, largest=MAX_COUNT):
        value = self.field(values, name, int)
        if not smallest <= value <= largest:
            self.fail(f"`{name}` must be from {smallest} to {largest}, found {value}")
        return value

    def path(self, values, name):
        """A relative path that stays inside the bundle."""
        value = self.text(values, name)
        parts = value.split("/")
        if "\\" in value or ":" in value or "\0" in value or any(part in ("", ".", "..") for part in parts):
            self.fail(f"`{name}` must be a relative path inside the bundle, found {value!r}")
        return value

"""A bundle on the disk: its manifest, checked line by line, its files, their sizes and hashes."""
import dataclasses
import hashlib
import itertools
import pathlib
import re

from kzoo.errors import unknown
from kzoo.export.manifest import MANIFEST, RECORD, open_manifest
from kzoo.export.signature_tables import TABLES, table_of
from kzoo.export.signatures import signatures
from kzoo.export.text_forms import reads_text, text_file
from kzoo.tokenizers import tokenizer_files

GOLDEN = "verification.npz"
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
# (runtime, variant) -> its suffix, where it is not its name. Programs in JavaScript know 4 bits as "q4".
SUFFIXES = {("onnx", "int4"): "_q4", ("onnx-text", "int4"): "_q4"}


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
        record: what the export found, see `RECORD`.
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

    def spec(self):
        """What a process that opens it needs, as plain values."""
        return {"runtime": self.runtime, "variant": self.variant, "file": self.file, "files": list(self.files)}

    def to_dict(self):
        return {**self.spec(),
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

    def strays(self, artifacts=None):
        """Files that the manifest does not list and that opening an artifact would read, because of where they lie.

        Args:
            artifacts: those to be opened; None means all.
        """
        found = set(tokenizer_files(self.folder))
        for artifact in self.artifacts if artifacts is None else artifacts:
            if (self.folder / artifact.file).is_dir():
                found |= {path for path in (self.folder / artifact.file).rglob("*") if path.is_file()}
        return sorted(path for path in found if path.relative_to(self.folder).as_posix() not in self.files)

    def check_opening(self, *artifacts):
        """Raise ValueError naming a file that is not as the manifest says, of those that opening `artifacts` reads.

        The tokenizer's are among them, also where there are no artifacts.
        """
        for path in self.strays(artifacts):
            raise ValueError(stray_problem(path))
        self.check_files([*self.shared_files(), *(path for artifact in artifacts for path in artifact.files)])

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
        try:
            there = place.is_file()
        except OSError:  # a name that the system does not take
            there = False
        if not there:
            return f"{place} is missing; the manifest lists it."
        if not place.resolve().is_relative_to(self.folder.resolve()):
            return f"{place} is a link that leaves the bundle; it is not opened."
        if place.stat().st_size != size:
            return (f"{place} is damaged: it has {place.stat().st_size} bytes, the manifest says {size}. "
                    "Export it again.")
        if sha256_of(place) != digest:
            return f"{place} is damaged: its sha256 is not the manifest's. Export it again."
        return None


def stray_problem(path):
    """The sentence on a file of `Bundle.strays`."""
    return f"{path} is not listed by the manifest, and would be read as a part of the model. Remove it."


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
    suffix = "" if variant == "none" else SUFFIXES.get((runtime, variant), f"_{variant}")
    return PATHS[runtime].format(name=name, suffix=suffix)


def read_bundle(path):
    """Open a bundle's manifest and check every field of it; its files are checked where they are used.

    Raises: FileNotFoundError if there is none; ValueError naming the field that is wrong.
    """
    folder = pathlib.Path(path)
    manifest, read = open_manifest(folder)
    task = read.text(manifest, "task")
    if task not in TABLES:
        raise ValueError(f"{read.place}: {unknown('task', task, TABLES)}")
    sizes = read.sizes(manifest, task)
    read.settings(manifest, task, sizes)
    files = {}
    for row in read.field(manifest, "files", list):
        name = read.path(row, "path")
        if name in files:
            read.fail(f"`files` lists {name!r} twice")
        read.only(row, ("path", "size", "sha256"))
        files[name] = (read.whole(row, "size", largest=MAX_BYTES), read.digest(row, "sha256"))
    artifacts = tuple(_read_artifact(read, row, files, task, sizes) for row in read.field(manifest, "artifacts", list))
    names = [artifact.name for artifact in artifacts]
    if len(set(names)) < len(names):
        read.fail("`artifacts` lists one twice")
    read.description(manifest)
    read.seal(manifest)  # last: what is wrong with a field says more
    return Bundle(folder, manifest, files, artifacts)


def _read_artifact(read, row, files, task, sizes):
    runtime = read.text(row, "runtime")
    if runtime not in PATHS:
        read.fail(unknown("runtime", runtime, PATHS).rstrip("."))
    variant = read.text(row, "variant")
    if not re.fullmatch("[a-z0-9_-]+", variant):
        read.fail(f"`variant` must be a plain name, found {variant!r:.80}")
    paths = read.texts(row, "files")
    for path in paths:
        if path not in files:
            read.fail(f"an artifact names the file {path!r:.200}, which `files` does not list")
    main = read.path(row, "file")
    wanted = _main_files(task, sizes, runtime, variant)
    if main not in wanted:
        read.fail(f"`file` of the artifact {runtime!r}, variant {variant!r}, must be {wanted[0]!r}, "
                  f"found {main!r:.200}")
    for each in wanted:  # those that a session will open
        if not any(path == each or path.startswith(f"{each}/") for path in paths):
            read.fail(f"the artifact {main!r} has none of its own files: {each!r} is not among them")
    _check_signatures(read, row, main, signatures(task, runtime, sizes) if row.get("signatures") else {})
    verification = read.field(row, "verification", dict)
    if "passed" in verification:
        read.field(verification, "passed", bool)
    read.only(row, ("runtime", "variant", "file", "files", "verified", "signatures", "verification", *RECORD))
    return Artifact(runtime, variant, main, tuple(paths), row["signatures"], verification,
                    {name: row[name] for name in RECORD if name in row})


def _main_files(task, sizes, runtime, variant):
    """Where the graphs of an artifact lie; the first is its main file."""
    if runtime != "onnx":
        return [main_file(runtime, variant, text_file(task) if reads_text(runtime) else "model")]
    return list(dict.fromkeys(main_file(runtime, variant, form.file_name) for form in table_of(task, sizes)[runtime]))


def _check_signatures(read, row, main, expected):
    """What the manifest says of inputs and outputs must be what the files of such a model have."""
    for name, stated in read.field(row, "signatures", dict).items():
        read.field(row["signatures"], name, dict)
        if name not in expected:
            continue
        right = expected[name].to_dict()
        if stated.get("file_name") != right["file_name"]:
            read.fail(f"`file_name` of the signature {name!r} of {main!r} must be {right['file_name']!r}")
        for side in ("inputs", "outputs"):
            rows = read.field(stated, side, list)
            wrong = next((pair for pair in itertools.zip_longest(rows, right[side]) if pair[0] != pair[1]), None)
            if wrong:
                read.fail(f"`{side}` of the signature {name!r} of {main!r} must hold {wrong[1]!r:.200}, "
                          f"found {wrong[0]!r:.200}")

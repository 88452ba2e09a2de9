"""manifest.json: fields read by type and limit, and a seal by which any other change shows."""
import hashlib
import pathlib
import warnings

from kzoo.errors import unknown
from kzoo.export.signature_tables import NO_LIMIT, REWRITING, kind_of, size_names
from kzoo.files import json_text, read_json, write_atomic
from kzoo.tasks.options import GenerationOptions

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 16 * 2**20
MAX_COUNT = 2**31 - 1
MAX_LAYERS = 10_000
LONGEST_NAME = 255  # bytes of a file or folder, on every usual system

# Field that says where a bundle comes from -> its type. Those that opening it needs are read one by one.
DESCRIPTION = {"kzoo": str, "versions": dict, "created": str, "family": str, "parameters": int, "config": dict,
               "portable": bool}
# What a manifest holds of an artifact besides its files and signatures. Of writing it: seconds, peak_memory (bytes). Of
# using it: latency (see `kzoo.export.latency`), load_seconds, memory (bytes for one text). Of what it is made of (see
# `kzoo.export.audit`): operators, delegates, arena.
RECORD = ("seconds", "peak_memory", "latency", "load_seconds", "memory", "operators", "delegates", "arena")
# The last field: sha256 of the file as it would be if these 64 digits were zeros.
SEAL = "manifest_sha256"
BLANK = "0" * 64


def write_manifest(folder, manifest):
    """Write `manifest`, a dict, as the folder's manifest.json, sealed."""
    text = json_text({**{name: value for name, value in manifest.items() if name != SEAL}, SEAL: BLANK})
    head, _, tail = text.rpartition(BLANK)
    write_atomic(pathlib.Path(folder, MANIFEST), head + _digest(text.encode("utf-8")) + tail)


def open_manifest(folder):
    """(manifest, its `Reader`) of a bundle's folder; the fields and the seal are yet to be checked.

    Raises: FileNotFoundError if there is none; ValueError if it is none that `json` reads, or too large to be one.
    """
    place = folder / MANIFEST
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder. Give a bundle that `export` wrote.")
    if not place.is_file():
        raise FileNotFoundError(f"{folder} holds no {MANIFEST}: it is not a bundle.")
    if not place.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{place} is a link that leaves the bundle; it is not opened.")
    if place.stat().st_size > MAX_MANIFEST_BYTES:
        raise ValueError(f"{place} has {place.stat().st_size} bytes; no bundle needs more than {MAX_MANIFEST_BYTES}.")
    manifest, read = read_json(place, strict=True), Reader(place)
    version = read.whole(manifest, "format")
    if version != FORMAT_VERSION:
        raise ValueError(f"{place} is of format {version}; this kzoo reads format {FORMAT_VERSION}.")
    return manifest, read


class Reader:
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

    def only(self, values, names):
        """Refuse fields of other names."""
        for name in values:
            if name not in names:
                self.fail(unknown("field", name[:80], names).rstrip("."))

    def text(self, values, name):
        value = self.field(values, name, str)
        if not value or len(value) > 4096:
            self.fail(f"`{name}` must be a short text")
        return value

    def texts(self, values, name):
        """A list of texts."""
        value = self.field(values, name, list)
        if not all(isinstance(each, str) for each in value):
            self.fail(f"`{name}` must be a list of texts")
        return value

    def whole(self, values, name, smallest=0, largest=MAX_COUNT):
        value = self.field(values, name, int)
        if not smallest <= value <= largest:
            self.fail(f"`{name}` must be from {smallest} to {largest}, found {value!s:.40}")
        return value

    def path(self, values, name):
        """A relative path that stays inside the bundle, on any system."""
        value = self.text(values, name)
        parts = value.split("/")
        if "\\" in value or ":" in value or not value.isprintable() or any(part in ("", ".", "..") for part in parts):
            self.fail(f"`{name}` must be a relative path inside the bundle, found {value!r:.200}")
        if any(len(part.encode("utf-8")) > LONGEST_NAME for part in parts):
            self.fail(f"`{name}` holds a name of more than {LONGEST_NAME} bytes, {value!r:.40}...")
        return value

    def digest(self, values, name):
        value = self.text(values, name)
        if len(value) != 64 or set(value) - set("0123456789abcdef"):
            self.fail(f"`{name}` must be 64 hexadecimal digits, found {value!r:.80}")
        return value

    def description(self, manifest):
        """The fields that say where the bundle comes from; each may be missing."""
        for name, kind in DESCRIPTION.items():
            if name in manifest:
                self.field(manifest, name, kind)
        self.only(manifest, ("format", "task", "sizes", "settings", "files", "artifacts", *DESCRIPTION, SEAL))

    def sizes(self, manifest, task):
        sizes = self.field(manifest, "sizes", dict)
        names = size_names(task, sizes)
        self.only(sizes, names)
        for name in names:  # 0: no limit
            free = kind_of(task, sizes) in NO_LIMIT and name in ("max_sequence_length", "max_target_length")
            self.whole(sizes, name, 0 if free else 1, MAX_LAYERS if name == "num_layers" else MAX_COUNT)
        if 0 < sizes["max_sequence_length"] < sizes.get("static_length", 0):
            self.fail(f"`static_length` must be at most `max_sequence_length`, {sizes['max_sequence_length']}")
        return sizes

    def settings(self, manifest, task, sizes):
        """What a session takes from the task's settings."""
        settings = self.field(manifest, "settings", dict)
        if "num_labels" in sizes and len(self.texts(settings, "labels")) != sizes["num_labels"]:
            self.fail(f"`labels` must be {sizes['num_labels']} texts")
        if task in REWRITING:
            self.whole(settings, "decoder_start_id", largest=sizes["vocabulary_size"] - 1)
            self.whole(settings, "eos_id", largest=max(sizes["vocabulary_size"], sizes["source_vocabulary_size"]) - 1)
            defaults = self.field(settings, "generation_defaults", dict)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of options without an effect; a caller may give the others
                    GenerationOptions.from_dict(defaults)
            except (TypeError, ValueError) as error:
                self.fail(f"`generation_defaults`: {error}".rstrip("."))
        return settings

    def seal(self, manifest):
        """Refuse a manifest whose bytes are not those that were written, whatever has changed."""
        stated = self.digest(manifest, SEAL)
        head, found, tail = self.place.read_bytes().rpartition(stated.encode("ascii"))
        if not found or _digest(head + BLANK.encode("ascii") + tail) != stated:
            raise ValueError(f"{self.place} is damaged: its sha256 is not the one that it states. Export it again.")


def _digest(data):
    return hashlib.sha256(data).hexdigest()

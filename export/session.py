"""Sessions: an open artifact that takes and returns numpy arrays by name, whatever runtime is below."""
import abc
import importlib
import os

import numpy as np

from kzoo.errors import unknown
from kzoo.export.artifact import read_bundle
from kzoo.export.signatures import forward_signature, signatures
from kzoo.tasks.generate import TokenDecoder
from kzoo.tasks.generate import generate as generate_tokens

# Runtime -> module, class, and the extra that brings its packages.
RUNTIMES = {
    "onnx": ("kzoo.export.onnx_session", "OnnxSession", "kzoo"),
    "tflite": ("kzoo.export.tflite_session", "TFLiteSession", "kzoo[tflite]"),
    "savedmodel": ("kzoo.export.saved_model_session", "SavedModelSession", "kzoo[train]"),
    "keras": ("kzoo.export.keras_session", "KerasSession", "kzoo[train]"),
}


class Session(abc.ABC):
    """An open artifact.

    Args:
        task: what the model does.
        sizes: the whole numbers of `kzoo.export.signatures.SIZES`.
        variant: its quantisation, "none" for float32.
        manifest: the bundle's, or None.
        tokenizer: a `kzoo.tokenizers.Tokenizer`, or None for token ids alone.
    """

    runtime = None

    def __init__(self, task, sizes, variant="none", manifest=None, tokenizer=None):
        self.task = task
        self.sizes = dict(sizes)
        self.variant = variant
        self.manifest = manifest
        self.tokenizer = tokenizer
        self.file_signatures = signatures(task, self.runtime, sizes)
        self.signatures = {"forward": forward_signature(task, sizes), **self.file_signatures}

    def run(self, signature, inputs):
        """Call one signature.

        Args:
            signature: "forward", which every runtime has, or one of `self.signatures`.
            inputs: dict of arrays by our names; shapes and dtypes as the signature's rows say.

        Returns: dict of numpy arrays by our names.
        Raises: ValueError naming the input that does not fit.
        """
        if signature not in self.signatures:
            raise ValueError(unknown("signature", signature, self.signatures))
        arrays = check_inputs(self.signatures[signature], inputs, self.sizes)
        if signature == "forward":
            return self._forward(arrays)
        return self._run(signature, arrays)

    @abc.abstractmethod
    def described(self):
        """What the file itself says: signature -> {"inputs" and "outputs": {file name: (shape, dtype)}}.

        A dimension without a fixed size is None or a symbol. None where there is no file.
        """

    def differences(self):
        """Sentences on what the file states otherwise than the signature tables do; empty for a sound one."""
        stated = self.described()
        if stated is None:
            return []
        expected = {name: form for name, form in self.file_signatures.items() if not form.derived}
        problems = [f"signature {name!r} is missing" for name in expected if name not in stated]
        problems += [f"signature {name!r} is not expected" for name in stated if name not in expected]
        for name in expected.keys() & stated.keys():
            for side in ("inputs", "outputs"):
                problems += _differences(name, {row.file_name: row for row in getattr(expected[name], side)},
                                         stated[name][side])
        return problems

    @abc.abstractmethod
    def _forward(self, arrays):
        """`run` of "forward", with checked arrays."""

    @abc.abstractmethod
    def _run(self, signature, arrays):
        """`run` of a signature of the file, with checked arrays."""


class TextGenerationSession(Session, TokenDecoder):
    """A session that continues text: it is what the generate loop drives.

    A session gives `prefill`, `decode` and `reorder`; see `kzoo.tasks.generate.TokenDecoder`.
    """

    @property
    def vocabulary_size(self):
        return self.sizes["vocabulary_size"]

    @property
    def max_sequence_length(self):
        return self.sizes["max_sequence_length"]

    def generate(self, inputs, stream=None, **options):
        """Continue text or token ids; see `kzoo.tasks.generate.generate` for inputs and options."""
        return generate_tokens(self, self.tokenizer, inputs, stream=stream, **options)

    def __call__(self, inputs, **options):
        """The task's answer to a text, or to each of a list of texts."""
        return self.generate(inputs, **options)


def open_bundle(path, runtime=None, variant="none", **options):
    """A session on one artifact of a bundle, its files checked first.

    Args:
        path: the bundle's folder.
        runtime: "onnx", "tflite", "savedmodel" or "keras"; None takes the first of these that the bundle has.
        variant: its quantisation, "none" for float32.
        options: of the runtime, for example `threads`.

    Raises: FileNotFoundError or ValueError naming the file or field that is damaged, or the runtime or variant that
        the bundle has not; ImportError naming the extra if the runtime is not installed.
    """
    bundle = read_bundle(path)
    if runtime is not None and runtime not in RUNTIMES:
        raise ValueError(unknown("runtime", runtime, RUNTIMES))
    artifact = bundle.find(runtime, variant)
    bundle.check_files([*bundle.shared_files(), *artifact.files])
    session = open_session(bundle, artifact, **options)
    problems = session.differences()
    if problems:
        raise ValueError(f"{bundle.folder / artifact.file} is not what the manifest describes: {problems[0]}.")
    return session


def open_session(bundle, artifact, **options):
    """The session of one artifact.

    Args:
        bundle: a `kzoo.export.artifact.Bundle`; its files are taken to be checked.
        artifact: one of its artifacts.
        options: of the runtime, for example `threads`.

    Raises: ImportError naming the extra if the runtime is not installed; ValueError if it refuses the file.
    """
    from kzoo.tokenizers import find_tokenizer, load_tokenizer

    module, name, extra = RUNTIMES[artifact.runtime]
    try:
        cls = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ImportError(f"The runtime {artifact.runtime!r} needs packages that are not here ({error}). "
                          f"Install them with: pip install '{extra}'.") from error
    tokenizer = load_tokenizer(bundle.folder) if find_tokenizer(bundle.folder) else None
    place = bundle.folder / artifact.file
    try:
        return cls(place, task=bundle.task, sizes=bundle.sizes, variant=artifact.variant, manifest=bundle.manifest,
                   tokenizer=tokenizer, **options)
    except TypeError:
        raise  # an option that the runtime has not
    except Exception as error:  # every runtime has exceptions of its own for a file it cannot read
        raise ValueError(f"{place} does not open in the runtime {artifact.runtime!r}: {first_line(error)}") from error


def check_inputs(signature, inputs, sizes):
    """`inputs` as arrays of the signature's dtypes, or a ValueError that names the input."""
    if not isinstance(inputs, dict):
        raise ValueError(f"Inputs of {signature.name!r} are a dict of arrays by name. "
                         f"Received: {type(inputs).__name__}.")
    rows = {row.name: row for row in signature.inputs}
    for name in inputs:
        if name not in rows:
            raise ValueError(f"Signature {signature.name!r}: {unknown('input', name, rows)}")
    arrays, symbols = {}, {}
    for name, row in rows.items():
        if inputs.get(name) is None:
            if not row.optional:
                raise ValueError(f"Signature {signature.name!r} lacks the input `{name}`.")
            continue
        array = np.asarray(inputs[name])
        _check_shape(row, array, symbols)
        arrays[name] = _check_values(row, array, sizes)
    past, length = symbols.get("past_sequence_length", 0), symbols.get("sequence_length", 0)
    total = symbols.get("total_sequence_length")
    if total is not None and total != past + length:
        raise ValueError(f"`padding_mask` must cover the cache and the new tokens, {past} + {length}. "
                         f"Received: {total} columns.")
    if past + length > sizes["max_sequence_length"]:
        raise ValueError(f"`token_ids` reaches {past + length} tokens; "
                         f"the model's `max_sequence_length` is {sizes['max_sequence_length']}.")
    return arrays


def _differences(signature, rows, stated):
    for name in rows:
        if name not in stated:
            yield f"{signature}: {name!r} is missing"
    for name, (shape, dtype) in stated.items():
        if name not in rows:
            yield f"{signature}: {name!r} is not expected"
            continue
        if dtype != rows[name].dtype:
            yield f"{signature}: {name!r} is {dtype}, expected {rows[name].dtype}"
        if shape is not None and not _fits(shape, rows[name].shape):
            yield f"{signature}: {name!r} has the shape {tuple(shape)}, expected {rows[name].shape}"


def _fits(stated, expected):
    """A symbol must stay free, and have the right name where the file gives it one; an unstated size may be any."""
    if len(stated) != len(expected):
        return False
    return all(size is None or size == form for size, form in zip(stated, expected, strict=True))


def _check_shape(row, array, symbols):
    if array.ndim != len(row.shape):
        raise ValueError(f"`{row.name}` must have the shape ({_spell(row.shape)}). Received: {array.shape}.")
    for size, actual in zip(row.shape, array.shape, strict=True):
        if isinstance(size, str):
            if actual == 0 and size != "past_sequence_length":
                raise ValueError(f"`{row.name}` is empty. Received the shape {array.shape}.")
            size = symbols.setdefault(size, actual)
        if size != actual:
            raise ValueError(f"`{row.name}` must have the shape ({_spell(row.shape)}), here "
                             f"({_spell([symbols.get(each, each) for each in row.shape])}). Received: {array.shape}.")


def _check_values(row, array, sizes):
    kind = array.dtype.kind
    if row.name.endswith("padding_mask"):
        if kind != "b" and (kind not in "iu" or array.size and (array.min() < 0 or array.max() > 1)):
            raise ValueError(f"`{row.name}` must be bool, or whole numbers 0 and 1. Received: {array.dtype}.")
    elif row.dtype.startswith("int"):
        if kind not in "iu":
            raise ValueError(f"`{row.name}` must hold whole numbers ({row.dtype}). Received: {array.dtype}.")
        limit = sizes["vocabulary_size"] if row.name.endswith("token_ids") else sizes["max_sequence_length"]
        if array.size and (array.min() < 0 or array.max() >= limit):
            worst = array.min() if array.min() < 0 else array.max()
            raise ValueError(f"`{row.name}` must be from 0 to {limit - 1}. Received: {worst}.")
    elif kind != "f":
        raise ValueError(f"`{row.name}` must be {row.dtype}. Received: {array.dtype}.")
    elif not np.isfinite(array).all():
        raise ValueError(f"`{row.name}` holds values that are not finite.")
    return np.ascontiguousarray(array, dtype=row.dtype)


def _spell(shape):
    return ", ".join(str(size) for size in shape)


def token_positions(padding_mask):
    """Position of every token, counted over real ones from 0; padding takes that of the real token before it."""
    return np.maximum(np.cumsum(padding_mask, axis=1) - 1, 0)


def physical_cores():
    """Cores this process may use, counted without hyper-threads; the best number of threads for matrix products."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = set()
    for cpu in allowed:
        try:
            with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", encoding="ascii") as file:
                cores.add(file.read().strip())
        except OSError:
            cores.add(str(cpu))  # not Linux, or a container that hides it
    return max(len(cores), 1)


def check_threads(threads):
    """`threads`, or the number of physical cores for None."""
    if threads is None:
        return physical_cores()
    if type(threads) is not int or threads < 1:
        raise ValueError(f"`threads` must be a whole number of at least 1. Received: {threads!r}.")
    return threads


def first_line(error):
    """The first line that says something, of an exception from a runtime."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__

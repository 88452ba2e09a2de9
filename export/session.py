"""Sessions: an open artifact that takes and returns numpy arrays by name, whatever runtime is below."""
import abc
import importlib
import os

from kzoo.errors import unknown
from kzoo.export.artifact import read_bundle
from kzoo.export.session_inputs import check_inputs, complete
from kzoo.export.signature_tables import kind_of
from kzoo.export.signatures import forward_signature, signatures

# Runtime -> the module whose SESSIONS has a class for each task, and the extra that brings its packages.
RUNTIMES = {
    "onnx": ("kzoo.export.onnx_session", "kzoo"),
    "tflite": ("kzoo.export.tflite_session", "kzoo[tflite]"),
    "savedmodel": ("kzoo.export.saved_model_session", "kzoo[train]"),
    "keras": ("kzoo.export.keras_session", "kzoo[train]"),
}
# The same for files that take strings.
TEXT_RUNTIMES = {
    "onnx-text": ("kzoo.export.onnx_text_session", "kzoo[text]"),
    "tflite-text": ("kzoo.export.tflite_text_session", "kzoo[train,tflite]"),
    "savedmodel-text": ("kzoo.export.saved_model_text_session", "kzoo[train]"),
}


class Session(abc.ABC):
    """An open artifact.

    Args:
        task: what the model does.
        sizes: the task's whole numbers in `kzoo.export.signature_tables.SIZES`.
        settings: of the task, such as its labels; None means there are none.
        variant: its quantisation, "none" for float32.
        manifest: the bundle's, or None.
        tokenizer: a `kzoo.tokenizers.Tokenizer`, or None for token ids alone.
    """

    runtime = None

    def __init__(self, task, sizes, settings=None, variant="none", manifest=None, tokenizer=None):
        self.task = task
        self.sizes = dict(sizes)
        self.settings = dict(settings or {})
        self.variant = variant
        self.manifest = manifest
        self.tokenizer = tokenizer
        self.file_signatures = self._file_signatures()
        self.signatures = {"forward": forward_signature(task, sizes), **self.file_signatures}

    def _file_signatures(self):
        """name -> Signature of what the file offers."""
        return signatures(self.task, self.runtime, self.sizes)

    def run(self, signature, inputs):
        """Call one signature.

        Args:
            signature: "forward", which every runtime has, or one of `self.signatures`.
            inputs: dict of arrays by our names; shapes and dtypes as the signature's rows say.

        Returns: dict of numpy arrays by our names.
        Raises: ValueError naming the input that does not fit.
        """
        if not isinstance(signature, str) or signature not in self.signatures:
            raise ValueError(unknown("signature", signature, self.signatures))
        form = self.signatures[signature]
        arrays = complete(form, check_inputs(form, inputs, self.sizes), self.task, self.settings)
        return self._forward(arrays) if signature == "forward" else self._run(signature, arrays)

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

    def _forward(self, arrays):
        """`run` of "forward", with checked arrays; a file without such a signature makes it out of others."""
        return self._run("forward", arrays)

    @abc.abstractmethod
    def _run(self, signature, arrays):
        """`run` of a signature of the file, with checked arrays."""


def open_bundle(path, runtime=None, variant="none", **options):
    """A session on one artifact of a bundle, its files checked first.

    Args:
        path: the bundle's folder.
        runtime: "onnx", "tflite", "savedmodel" or "keras"; None takes the first of these that the bundle has.
            With "-text" behind it the file whose tokenizer is inside, see `kzoo.export.text_session`.
        variant: its quantisation, "none" for float32.
        options: of the runtime, for example `threads`.

    Raises: FileNotFoundError or ValueError naming the file or field that is damaged, or the runtime or variant that
        the bundle has not; ImportError naming the extra if the runtime is not installed.
    """
    bundle = read_bundle(path)
    if runtime is not None and runtime not in {**RUNTIMES, **TEXT_RUNTIMES}:
        raise ValueError(unknown("runtime", runtime, RUNTIMES))
    artifact = bundle.find(runtime, variant)
    bundle.check_opening(artifact)
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

    module, extra = {**RUNTIMES, **TEXT_RUNTIMES}[artifact.runtime]
    try:
        cls = importlib.import_module(module).SESSIONS[kind_of(bundle.task, bundle.sizes)]
    except ImportError as error:
        raise ImportError(f"The runtime {artifact.runtime!r} needs packages that are not here ({error}). "
                          f"Install them with: pip install '{extra}'.") from error
    tokenizer = load_tokenizer(bundle.folder) if find_tokenizer(bundle.folder) else None
    place = bundle.folder / artifact.file
    try:
        return cls(place, task=bundle.task, sizes=bundle.sizes, settings=bundle.settings, variant=artifact.variant,
                   manifest=bundle.manifest, tokenizer=tokenizer, **options)
    except TypeError:
        raise  # an option that the runtime has not
    except Exception as error:  # every runtime has exceptions of its own for a file it cannot read
        raise ValueError(f"{place} does not open in the runtime {artifact.runtime!r}: {first_line(error)}") from error


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

"""What writes an artifact: one class a file format."""
import importlib
import math

from kzoo.errors import unknown
from kzoo.export.artifact import main_file
from kzoo.export.session import open_bundle
from kzoo.export.signatures import signatures, sizes_of

# Format, as users write it -> module and class. Also the order in which a bundle is written.
TARGETS = {
    "keras": ("kzoo.export.keras_model", "KerasTarget"),
    "savedmodel": ("kzoo.export.saved_model", "SavedModelTarget"),
    "onnx": ("kzoo.export.onnx_model", "OnnxTarget"),
    "tflite": ("kzoo.export.tflite_model", "TFLiteTarget"),
}
# Those that take strings, written beside the above where `text` is asked for.
TEXT_TARGETS = {
    "savedmodel-text": ("kzoo.export.saved_model_text", "SavedModelTextTarget"),
    "onnx-text": ("kzoo.export.onnx_text", "OnnxTextTarget"),
    "tflite-text": ("kzoo.export.tflite_text", "TFLiteTextTarget"),
}


class Target:
    """A file format.

    Args:
        portable: keep to what every runtime of the format has; only ONNX has runtimes with operators of their own.
        static_length: see `kzoo.export.signatures.sizes_of`.
        calibration_data: paths of data that show what the model will read, for variants that need it.

    Attributes:
        name: a key of `TARGETS` or `TEXT_TARGETS`, and the runtime that opens the result.
        quantisations: the variants it can write, "none" first.
        calibrated: those that need `calibration_data` -> the tasks that have them.
        most_bytes: of float32 weights that a file can hold; None means any number.
    """

    name = None
    quantisations = ("none",)
    calibrated = {}
    most_bytes = None

    def __init__(self, portable=False, static_length=None, calibration_data=None):
        self.portable = portable
        self.static_length = static_length
        self.calibration_data = calibration_data

    def signatures(self, model):
        """name -> expanded `Signature` of the model's artifact."""
        return signatures(model.task, self.name, sizes_of(model, self.static_length))

    def check(self, quantize):
        """Refuse a quantisation this format has not."""
        if quantize not in self.quantisations:
            raise ValueError(f"Format {self.name!r}: {unknown('quantisation', quantize, self.quantisations)}")

    def check_calibration(self, quantize, task, calibration_data):
        """Refuse a quantisation that a task does not have, or that lacks its data."""
        if quantize not in self.calibrated:
            return
        if task not in self.calibrated[quantize]:
            raise ValueError(f"{quantize!r} is for models that answer a text at once; those of the task {task!r} "
                             "have the other quantisations.")
        if calibration_data is None:
            raise ValueError(f"{quantize!r} needs `calibration_data` (--calibration-data): a file of texts like those "
                             "that the model will read, in the form that it is trained on.")

    def check_size(self, model):
        """Refuse a model that is too large for the format."""
        size = 4 * sum(math.prod(weight.shape) for weight in model.weights)
        if self.most_bytes is not None and size > self.most_bytes:
            raise ValueError(f"Format {self.name!r}: its files hold at most {self.most_bytes / 1e9:.1f} GB, and all of "
                             f"its variants start from float32 weights, which are {size / 1e9:.1f} GB here. Leave it "
                             "out of `formats` (--formats).")

    def write(self, model, folder, quantize="none"):
        """Write one artifact.

        Args:
            model: a task model, freshly loaded in float32; this runs in a process of its own.
            folder: the bundle being made; the artifact belongs at `self.path(quantize, model.task)` below it.
            quantize: one of `quantisations`.

        Returns: the files written, relative to `folder`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `write`.")

    def path(self, quantize="none", task="text-generation"):
        """The main file of the artifact, relative to the bundle."""
        return main_file(self.name, quantize)

    def open(self, folder, variant="none"):
        """A `Session` on the artifact of an existing bundle."""
        return open_bundle(folder, self.name, variant)


def get_target(name, portable=False, static_length=None, calibration_data=None):
    """The target that writes a format; for the rest see `Target`."""
    known = {**TARGETS, **TEXT_TARGETS}
    if name not in known:
        raise ValueError(unknown("format", name, TARGETS))
    module, cls = known[name]
    return getattr(importlib.import_module(module), cls)(portable, static_length, calibration_data)

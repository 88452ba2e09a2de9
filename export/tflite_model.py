"""TFLite: fixed shapes, builtin operators only, a signature for each prompt bucket and one to decode."""
import contextlib
import gc
import pathlib
import tempfile

from kzoo.export.saved_model import write_saved_model
from kzoo.export.signature_tables import ANSWERS
from kzoo.export.target import Target


class TFLiteTarget(Target):
    """`tflite/model.tflite`: of a decoder `prefill_<T>` and `decode` with a cache of the model's full context.

    Variants are made from the float32 file, which is converted for them where the bundle does not have it.
    """

    name = "tflite"
    # Half-precision weights; weights of few bits; everything in 8 bits, for models that answer at once.
    quantisations = ("none", "fp16", "int8", "int4", "int8_full")
    calibrated = {"int8_full": tuple(ANSWERS)}
    most_bytes = 2**31 - 2**26  # offsets in the file have 31 bits; the graphs need some of them
    custom = False  # whether to allow operators that are not TFLite's own

    def write(self, model, folder, quantize="none"):
        self.check(quantize)
        self.check_calibration(quantize, model.task, self.calibration_data)
        rows = list(self.signatures(model).values())
        path, whole = (pathlib.Path(folder, self.path(variant, model.task)) for variant in (quantize, "none"))
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = self._samples(model, rows) if quantize == "int8_full" else None
        if path != whole and whole.is_file():
            content = whole.read_bytes()
        else:
            with tempfile.TemporaryDirectory(dir=path.parent) as work:
                with without_loops(model):
                    self._save(model, rows, work)
                del model  # the converter has the weights from the folder and needs the memory
                gc.collect()
                content = to_tflite(work, rows, self.custom)
        if path != whole:
            from kzoo.export.tflite_quantize import quantize as quantized

            content = quantized(content, quantize, samples)
        path.write_bytes(content)
        return [str(path.relative_to(folder))]

    def _save(self, model, rows, folder):
        """The SavedModel to convert."""
        write_saved_model(model, rows, folder)

    def _samples(self, model, rows):
        """Signature -> list of inputs by the file's names, of every text cut or filled up to its length."""
        from kzoo.export.calibration import padded, record_texts

        texts = record_texts(model, self.calibration_data)
        return {signature.file_name: [
            {row.file_name: found[row.name].astype(row.dtype) for row in signature.inputs}
            for found in (padded(text, signature.inputs[0].shape[1]) for text in texts)] for signature in rows}


@contextlib.contextmanager
def without_loops(model):
    """Within it, attention that goes through its keys in a loop of blocks compares with all of them at once, which is
    the same: a file without control flow is what delegates can take whole."""
    from kzoo.layers import Blockwise, Full

    layers = [layer for layer in model._flatten_layers() if isinstance(getattr(layer, "pattern", None), Blockwise)]
    patterns = [layer.pattern for layer in layers]
    try:
        for layer in layers:
            layer.pattern = Full()
        yield
    finally:
        for layer, pattern in zip(layers, patterns, strict=True):
            layer.pattern = pattern


def to_tflite(folder, rows, custom=False):
    """A SavedModel as the bytes of a TFLite file in float32.

    Args:
        folder: the SavedModel.
        rows: its signatures, expanded.
        custom: allow operators that are not TFLite's own.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        folder, signature_keys=[signature.file_name for signature in rows])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.allow_custom_ops = custom
    # Weights become constants, stored once for all signatures; as resources the file would lack their values.
    converter.experimental_enable_resource_variables = False
    return converter.convert()

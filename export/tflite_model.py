"""TFLite: fixed shapes, builtin operators only, a signature for each prompt bucket and one to decode."""
import gc
import pathlib
import tempfile

from kzoo.export.saved_model import write_saved_model
from kzoo.export.target import Target


class TFLiteTarget(Target):
    """`tflite/model.tflite`: of a decoder `prefill_<T>` and `decode` with a cache of the model's full context."""

    name = "tflite"
    # Half-precision weights, or weights of 8 bits whose products also round what comes in to 8 bits.
    quantisations = ("none", "fp16", "int8")

    def write(self, model, folder, quantize="none"):
        self.check(quantize)
        rows = list(self.signatures(model).values())
        path = pathlib.Path(folder, self.path(quantize))
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            write_saved_model(model, rows, work)
            del model  # the converter has the weights from the folder and needs the memory
            gc.collect()
            content = to_tflite(work, rows, quantize)
        path.write_bytes(content)
        return [str(path.relative_to(folder))]


def to_tflite(folder, rows, quantize="none", custom=False):
    """A SavedModel as the bytes of a TFLite file.

    Args:
        folder: the SavedModel.
        rows: its signatures, expanded.
        quantize: one of `TFLiteTarget.quantisations`.
        custom: allow operators that are not TFLite's own.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(
        folder, signature_keys=[signature.file_name for signature in rows])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.allow_custom_ops = custom
    # Weights become constants, stored once for all signatures; as resources the file would lack their values.
    converter.experimental_enable_resource_variables = False
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()

"""SavedModel: one function a signature, over one set of variables."""
import pathlib

from kzoo.export.target import Target
from kzoo.export.trace import run_signature


class SavedModelTarget(Target):
    """`saved_model/1/`: `serving_default`, `prefill` and `decode`, any batch size and length."""

    name = "savedmodel"

    def write(self, model, folder, quantize="none"):
        self.check(quantize)
        folder = pathlib.Path(folder)
        path = folder / self.path(quantize)
        write_saved_model(model, self.signatures(model).values(), path)
        return sorted(str(file.relative_to(folder)) for file in path.rglob("*") if file.is_file())


def write_saved_model(model, rows, path, make=None, resources=()):
    """Save a function for each signature, inputs and outputs under the signature's file names.

    Through Keras' ExportArchive: a plain `tf.saved_model.save` of a module around the model keeps the variables
    where the TFLite converter does not find their values, and writes a file whose every output is NaN.

    Args:
        model: a task model.
        rows: expanded signatures.
        path: the folder to make.
        make: function (model, signature) -> function of its inputs in order; None means `endpoint`.
        resources: what those functions use besides the model and that TensorFlow has to save.
    """
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    for resource in resources:
        archive.track(resource)
    for signature in rows:
        specs = [tf.TensorSpec([size if isinstance(size, int) else None for size in row.shape], row.dtype,
                               name=row.file_name) for row in signature.inputs]
        archive.add_endpoint(signature.file_name, (make or endpoint)(model, signature), input_signature=specs)
    archive.write_out(str(path), verbose=False)


def endpoint(model, signature):
    """The signature as a function of tensors in the order of its rows."""
    def function(*tensors):
        outputs = run_signature(model, signature, {
            row.name: tensor for row, tensor in zip(signature.inputs, tensors, strict=True)})
        return {row.file_name: outputs[row.name] for row in signature.outputs}

    return function

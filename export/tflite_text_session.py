"""TFLite files that take strings, in the LiteRT interpreter with the operators of tensorflow-text."""
import numpy as np
import tensorflow_text
from ai_edge_litert.interpreter import InterpreterWithCustomOps

from kzoo.export.session import check_threads
from kzoo.export.signature_tables import TABLES
from kzoo.export.text_session import TextSession, strings


def describe_runner(runner):
    """What `Session.described` says of one signature."""
    def plain(row):
        dtype = np.dtype(row["dtype"])
        return tuple(int(size) for size in row["shape"]), "string" if dtype.kind in "SO" else dtype.name
    return {side: {key: plain(row) for key, row in details.items()}
            for side, details in (("inputs", runner.get_input_details()), ("outputs", runner.get_output_details()))}


class TFLiteText(TextSession):
    """A session that reads texts one by one, each in the shortest signature that holds it.

    Args:
        path: the .tflite file.
        threads: of the interpreter; None means the physical cores.
        options: see `Session`.
    """

    runtime = "tflite-text"

    def __init__(self, path, threads=None, **options):
        super().__init__(**options)
        self._interpreter = InterpreterWithCustomOps(
            custom_op_registerers=tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS, model_path=str(path),
            num_threads=check_threads(threads))
        self._runners = {form.file_name: self._interpreter.get_signature_runner(form.file_name)
                         for form in self.signatures.values()}

    def described(self):
        return {name: describe_runner(self._runners[form.file_name]) for name, form in self.signatures.items()}

    def _read(self, texts):
        rows = [self._read_one(text) for text in texts]
        width = max(row["token_ids"].shape[1] for row in rows)
        return {name: np.concatenate([_widened(row[name], width) if name in self.per_token else row[name]
                                      for row in rows]) for name in rows[0]}

    def _read_one(self, text):
        for form in self.signatures.values():  # the shortest first
            outputs = self._runners[form.file_name](texts=strings([text.encode("utf-8")]))
            if outputs["num_tokens"][0] <= next(row.shape[1] for row in form.outputs if row.name == "token_ids"):
                break  # or it was cut
        return {row.name: _decoded(outputs[row.file_name]) if row.dtype == "string" else outputs[row.file_name]
                for row in form.outputs}


def _widened(array, width):
    """(1, T, ...) as (1, width, ...), with zeros."""
    return np.pad(array, ((0, 0), (0, width - array.shape[1]), *[(0, 0)] * (array.ndim - 2)))


def _decoded(array):
    return np.array([value.decode("utf-8") for value in array.ravel()], object).reshape(array.shape)


SESSIONS = dict.fromkeys((task for task, forms in TABLES.items() if TFLiteText.runtime in forms), TFLiteText)

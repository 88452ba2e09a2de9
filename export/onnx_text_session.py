"""ONNX files that take strings, in ONNX Runtime with the operators of onnxruntime-extensions.

Its SentencePiece operator takes the interpreter down with it in a process that loaded TensorFlow first; the other way
round both work. So this module does not load after TensorFlow, unless onnxruntime-extensions did before.
"""
import sys

if "tensorflow" in sys.modules and "onnxruntime_extensions" not in sys.modules:
    raise ImportError("onnxruntime_extensions crashes where TensorFlow was loaded before it; import it first, or use "
                      "a process without TensorFlow", name="onnxruntime_extensions")

import onnxruntime  # noqa: E402
from onnxruntime_extensions import get_library_path  # noqa: E402

from kzoo.export.onnx_session import DTYPES  # noqa: E402
from kzoo.export.session import check_threads  # noqa: E402
from kzoo.export.signature_tables import TABLES  # noqa: E402
from kzoo.export.text_session import TextSession, strings  # noqa: E402


def open_graph(model, threads=None, providers=("CPUExecutionProvider",)):
    """An `onnxruntime.InferenceSession` that knows the operators.

    Args:
        model: path or bytes.
        threads, providers: as for `kzoo.export.onnx_session.OnnxSession`.
    """
    settings = onnxruntime.SessionOptions()
    settings.register_custom_ops_library(get_library_path())
    settings.intra_op_num_threads = check_threads(threads)
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(model, settings, providers=list(providers))


def rows_of(graph, texts):
    """Lists of the ids of texts, by a graph whose first outputs are ids and mask."""
    ids, mask, _ = graph.run(None, {"texts": strings(list(texts))})
    return [row[real > 0].tolist() for row, real in zip(ids, mask, strict=True)]


class OnnxText(TextSession):
    """A session on one graph.

    Args:
        path: the .onnx file.
        threads, providers: see `open_graph`.
        options: see `Session`.
    """

    runtime = "onnx-text"

    def __init__(self, path, threads=None, providers=("CPUExecutionProvider",), **options):
        super().__init__(**options)
        self._graph = open_graph(str(path), threads, providers)

    def described(self):
        def rows(tensors):
            return {tensor.name: (tuple(tensor.shape), DTYPES.get(tensor.type, tensor.type)) for tensor in tensors}
        return {next(iter(self.signatures)): {"inputs": rows(self._graph.get_inputs()),
                                              "outputs": rows(self._graph.get_outputs())}}

    def _read(self, texts):
        names = [row.file_name for row in self.outputs]
        return dict(zip((row.name for row in self.outputs), self._graph.run(names, {"texts": strings(texts)}),
                        strict=True))


SESSIONS = dict.fromkeys((task for task, forms in TABLES.items() if OnnxText.runtime in forms), OnnxText)

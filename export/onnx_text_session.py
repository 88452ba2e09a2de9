"""ONNX files that take strings, in ONNX Runtime with the operators of onnxruntime-extensions.

Its SentencePiece operator takes the interpreter down with it in a process that loaded TensorFlow first; the other way
round both work. So this module does not load after TensorFlow, unless onnxruntime-extensions did before.
"""
import sys

if "tensorflow" in sys.modules and "onnxruntime_extensions" not in sys.modules:
    raise ImportError("onnxruntime_extensions crashes where TensorFlow was loaded before it; import it first, or use "
                      "a process without TensorFlow", name="onnxruntime_extensions")

from onnxruntime_extensions import get_library_path  # noqa: E402

from kzoo.export import onnx_session  # noqa: E402
from kzoo.export.signature_tables import TABLES  # noqa: E402
from kzoo.export.text_session import TextSession, strings  # noqa: E402


def open_graph(model, threads=None, providers=("CPUExecutionProvider",)):
    """An `onnxruntime.InferenceSession` that knows the operators.

    Args:
        model: path or bytes.
        threads, providers: as for `kzoo.export.onnx_session.OnnxSession`.
    """
    return onnx_session.open_graph(model, threads, providers=providers, operators=get_library_path())


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
        return {next(iter(self.signatures)): onnx_session.describe_graph(self._graph)}

    def _read(self, texts):
        names = [row.file_name for row in self.outputs]
        return dict(zip((row.name for row in self.outputs), self._graph.run(names, {"texts": strings(texts)}),
                        strict=True))


SESSIONS = dict.fromkeys((task for task, forms in TABLES.items() if OnnxText.runtime in forms), OnnxText)

"""ONNX files in ONNX Runtime; neither TensorFlow nor Keras is needed."""
import pathlib
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from kzoo.export.artifact import main_file
from kzoo.export.recurrent import RecurrentSession
from kzoo.export.session import Session, check_threads
from kzoo.export.session_inputs import token_positions
from kzoo.export.signatures import merged_signature
from kzoo.export.task_sessions import AnsweringSession, GrowingSeq2SeqSession, TextGenerationSession, sessions

# What ONNX Runtime calls the types of tensors.
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64",
          "tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool", "tensor(string)": "string"}
# What ONNX Runtime makes of a sum and the norm after it is slower than the two, see `kzoo.export.onnx_norms`.
SLOWER = ["SkipLayerNormFusion"]


class _Rows:
    """What a decoder's file gets for each new token of some rows besides the cache, as values that lie on arrays of
    ours: to write into these takes a fifth of what new values take.

    Args:
        padding_mask: int64 (B, S) of the tokens that were read.
        positions: int64 (B, 1): of the last of them.
        room: tokens that are still to come; for more it grows.
    """

    def __init__(self, padding_mask, positions, room):
        self.count, self.length = padding_mask.shape
        self._mask = np.concatenate([padding_mask, np.ones((self.count, max(room, 1)), "int64")], axis=1)
        self._last, self._positions, self._token_ids = positions, positions.copy(), np.empty_like(positions)
        self._first = int(positions[0, 0]) + 1  # of the first row, the next token's
        self._values = _value(self._token_ids), _value(self._positions)

    def feed(self, token_ids, added):
        """Values of `token_ids`, `padding_mask` and `positions`, until the next call.

        Args:
            token_ids: int (B,).
            added: how many tokens were added before these.
        """
        length = self.length + added + 1
        if length > self._mask.shape[1]:
            self._mask = np.concatenate([self._mask, np.ones_like(self._mask)], axis=1)
        if self.count == 1:  # the common case, whose share of a token's time shows
            self._token_ids[0, 0] = token_ids[0]
            self._positions[0, 0] = self._first + added
            mask = self._mask[:, :length]
        else:
            self._token_ids[:, 0] = token_ids
            np.add(self._last, added + 1, out=self._positions)
            mask = np.ascontiguousarray(self._mask[:, :length])
        return self._values[0], onnxruntime.OrtValue.ortvalue_from_numpy(mask), self._values[1]

    def chosen(self, rows, added):
        """The same of these rows, with `added` tokens read."""
        length = self.length + added
        return _Rows(self._mask[rows, :length], self._last[rows] + added, self._mask.shape[1] - length)


class _State(NamedTuple):
    """The cache as values of the runtime, which never pass through numpy from one step to the next."""
    cache: Any  # OrtValues (B, K, S, D), in the order of the signature
    rows: _Rows
    added: int  # tokens that `rows` does not know of


def open_graph(model, threads=None, spin=False, providers=("CPUExecutionProvider",), operators=None):
    """An `onnxruntime.InferenceSession`.

    Args:
        model: path or bytes.
        threads, spin, providers: see `OnnxSession`.
        operators: path of a library of more of them.
    """
    settings = onnxruntime.SessionOptions()
    if operators is not None:
        settings.register_custom_ops_library(operators)
    settings.intra_op_num_threads = check_threads(threads)
    settings.enable_mem_pattern = False  # plans for fixed shapes; a growing cache has none
    settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(model, settings, providers=list(providers), disabled_optimizers=SLOWER)


def describe_graph(graph):
    """What `Session.described` says of one graph."""
    def rows(tensors):
        return {tensor.name: (tuple(tensor.shape), DTYPES.get(tensor.type, tensor.type)) for tensor in tensors}
    return {"inputs": rows(graph.get_inputs()), "outputs": rows(graph.get_outputs())}


class OnnxSession(Session):
    """A session on one ONNX graph, or on several that lie beside each other.

    Args:
        path: the .onnx file, of several the first.
        threads: of one operator; None means the physical cores.
        spin: let waiting threads burn time instead of sleeping. On a machine that does other work too, a token then
            takes about twice as long; on an idle one it makes little difference.
        providers: ONNX Runtime's execution providers, best first.
        options: see `Session`.
    """

    runtime = "onnx"

    def __init__(self, path, threads=None, spin=False, providers=("CPUExecutionProvider",), **options):
        super().__init__(**options)
        folder = pathlib.Path(path).parent
        self._graphs = {form.name: open_graph(
            str(folder / pathlib.PurePosixPath(main_file("onnx", self.variant, form.file_name)).name), threads, spin,
            providers) for form in self.file_signatures.values() if not form.derived}

    def described(self):
        return {name: describe_graph(graph) for name, graph in self._graphs.items()}

    def _run(self, signature, arrays):
        return {name: value.numpy() for name, value in self._call_native(signature, arrays).items()}

    def _call_native(self, signature, feeds):
        form = self.file_signatures[signature]
        values = self._graphs[signature].run_with_ort_values([row.file_name for row in form.outputs], {
            row.file_name: _value(feeds[row.name]) for row in form.inputs})
        return dict(zip((row.name for row in form.outputs), values, strict=True))


class OnnxAnswering(OnnxSession, AnsweringSession):
    """An encoder with a head."""


class OnnxSeq2Seq(OnnxSession, GrowingSeq2SeqSession):
    """An encoder, a decoder that begins a target, and one that continues it.

    Args:
        path, options: see `OnnxSession`.
        merged: let the one graph do the work of both decoders, as other programs do; its answers are the same.
    """

    def __init__(self, path, merged=False, **options):
        self._merged = merged
        super().__init__(path, **options)

    def _file_signatures(self):
        forms = super()._file_signatures()
        return {"encode": forms["encode"], "merged": merged_signature(forms)} if self._merged else forms

    def _call_native(self, signature, feeds):
        if not self._merged or signature == "encode":
            return super()._call_native(signature, feeds)
        begins, rows = signature == "prefill", len(feeds["decoder_token_ids"])
        unread = {"encoder_hidden_states": np.zeros((rows, 1, self.sizes["hidden_dim"]), "float32")}
        if begins:
            empty = np.zeros((rows, self.sizes["num_key_value_heads"], 0, 1), "float32")
            unread = {row.name: empty for row in self.file_signatures["merged"].inputs
                      if row.name.startswith(("cache_", "context_"))}
        flag = onnxruntime.OrtValue.ortvalue_from_numpy(np.array([not begins]))
        return super()._call_native("merged", {**feeds, **unread, "use_cache": flag})

    def _forward(self, arrays):
        encoded = self._call_native("encode", arrays)
        return {"logits": self._call_native("prefill", {**arrays, **encoded})["logits"].numpy()}

    def _to_numpy(self, value):
        return value.numpy()

    def _take_rows(self, value, rows):
        return _value(value.numpy()[rows])


class OnnxGeneration(OnnxSession, TextGenerationSession):
    """A decoder whose one graph reads prompts and continues them; see `OnnxSession`."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        decode = self.signatures["decode"]
        self._cache_rows = [row for row in decode.inputs if row.name.startswith("cache_")]
        # token_ids, padding_mask, positions, and the cache
        self._input_names = [row.file_name for row in (*decode.inputs[:3], *self._cache_rows)]
        self._output_names = [row.file_name for row in decode.outputs]

    def _forward(self, arrays):
        return {"logits": self._run("prefill", arrays)["logits"]}

    def _run(self, signature, arrays):
        token_ids = arrays["token_ids"]
        batch_size, length = token_ids.shape
        if signature == "prefill":
            cache = self._empty_cache(batch_size)
        else:
            cache = [_value(arrays[row.name]) for row in self._cache_rows]
        mask = arrays.get("padding_mask")
        if mask is None:
            mask = np.ones((batch_size, cache[0].shape()[2] + length), "int64")
        positions = arrays.get("positions")
        if positions is None:
            positions = token_positions(mask)[:, -length:]
        values = self._step(token_ids, mask, positions, cache)
        rows = self.signatures["decode"].outputs
        return {row.name: value.numpy() for row, value in zip(rows, values, strict=True)}

    def _step(self, token_ids, padding_mask, positions, cache):
        """OrtValues: logits (B, T, V), then the cache."""
        values = _value(token_ids), _value(padding_mask), _value(positions), *cache
        return self._graphs["decode"].run_with_ort_values(
            self._output_names, dict(zip(self._input_names, values, strict=True)))

    def _empty_cache(self, batch_size):
        shape = (batch_size, self.sizes["num_key_value_heads"], 0, self.sizes["head_dim"])
        return [_value(np.zeros(shape, row.dtype)) for row in self._cache_rows]

    def _prefill(self, token_ids, padding_mask, max_new_tokens):
        mask = np.asarray(padding_mask, "int64")
        positions = token_positions(mask)
        logits, *cache = self._step(token_ids, mask, positions, self._empty_cache(len(mask)))
        return logits.numpy()[:, -1], _State(cache, _Rows(mask, positions[:, -1:], max_new_tokens), 0)

    def _decode(self, token_ids, state):
        logits, *cache = self._step(*state.rows.feed(token_ids, state.added), state.cache)
        return logits.numpy()[:, -1], _State(cache, state.rows, state.added + 1)

    def _reorder(self, state, rows):
        rows = np.asarray(rows)
        if np.array_equal(rows, np.arange(state.rows.count)):
            return state
        return _State([_value(value.numpy()[rows]) for value in state.cache], state.rows.chosen(rows, state.added), 0)


def _value(array):
    """A runtime's value on the memory of `array`, which it keeps alive; what is one already stays as it is."""
    if isinstance(array, onnxruntime.OrtValue):
        return array
    if array.dtype.kind in "iub":  # every whole number in the tables is int64, masks included
        array = array.astype("int64", copy=False)
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


class OnnxRecurrent(OnnxSession, RecurrentSession):
    """A decoder with a memory; see `OnnxSession`."""

    def step(self, token_ids, padding_mask, state):
        outputs = self._call_native("decode", {"token_ids": token_ids, "padding_mask": padding_mask, **state})
        return outputs.pop("logits").numpy(), outputs

    def _reorder(self, state, rows):
        return {name: _value(value.numpy()[rows]) for name, value in state.items()}


SESSIONS = sessions(OnnxGeneration, OnnxAnswering, OnnxSeq2Seq, OnnxRecurrent)

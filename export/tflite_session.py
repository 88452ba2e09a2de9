"""TFLite files in the LiteRT interpreter; neither TensorFlow nor Keras is needed."""
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from kzoo.export.session import TextGenerationSession, check_threads
from kzoo.export.signatures import prefill_lengths


class _Row(NamedTuple):
    """One row of a batch. The file has batch size 1, so every row carries a cache of its own."""
    cache: Any     # file name -> array (1, C, K, D)
    position: int  # of the next token


class TFLiteSession(TextGenerationSession):
    """A decoder with fixed shapes: prompts are read in buckets, padded tokens are left out.

    Args:
        path: the .tflite file.
        threads: of the interpreter; None means the physical cores.
        options: see `Session`.
    """

    runtime = "tflite"

    def __init__(self, path, threads=None, **options):
        super().__init__(**options)
        self._interpreter = Interpreter(model_path=str(path), num_threads=check_threads(threads))
        self._runners = {}
        self._buckets = prefill_lengths(self.max_sequence_length)
        decode = self.signatures["decode"]
        self._tokens, self._positions, self._mask = (row.file_name for row in decode.inputs[:3])
        self._logits = decode.outputs[0].file_name
        self._cache_rows = decode.inputs[3:]

    def described(self):
        names = {signature.file_name: name for name, signature in self.file_signatures.items()}
        result = {}
        for file_name in self._interpreter.get_signature_list():
            runner = self._interpreter.get_signature_runner(file_name)
            result[names.get(file_name, file_name)] = {
                side: {key: (tuple(int(size) for size in row["shape"]), np.dtype(row["dtype"]).name)
                       for key, row in details.items()}
                for side, details in (("inputs", runner.get_input_details()), ("outputs", runner.get_output_details()))}
        return result

    def _call(self, signature, feeds):
        if signature not in self._runners:
            form = self.signatures[signature]
            mask = np.zeros(form.inputs[2].shape, form.inputs[2].dtype)  # what is hidden, the graph hides itself
            self._runners[signature] = self._interpreter.get_signature_runner(form.file_name), mask
        runner, mask = self._runners[signature]
        return runner(**{self._mask: mask, **feeds})

    def _run(self, signature, arrays):
        form = self.signatures[signature]
        results = self._call(signature, {row.file_name: arrays[row.name] for row in form.inputs if row.name in arrays})
        return {row.name: results[row.file_name] for row in form.outputs}

    def _forward(self, arrays):
        """Token by token, the only way to logits of all of them; those of padding are zeros."""
        token_ids = arrays["token_ids"]
        mask = arrays.get("padding_mask", np.ones(token_ids.shape, bool))
        logits = np.zeros((*token_ids.shape, self.vocabulary_size), "float32")
        for b, (ids, real) in enumerate(zip(token_ids, mask, strict=True)):
            row = self._empty_row()
            for t in np.flatnonzero(real):
                logits[b, t], row = self._decode_row(ids[t], row)
        return {"logits": logits}

    def _empty_row(self):
        return _Row({row.file_name: np.zeros(row.shape, row.dtype) for row in self._cache_rows}, 0)

    def _decode_row(self, token_id, row):
        results = self._call("decode", {self._tokens: np.array([[token_id]], "int32"),
                                        self._positions: np.array([row.position], "int32"), **row.cache})
        logits = results.pop(self._logits)[0, 0]
        return logits, _Row(results, row.position + 1)

    def _read_row(self, token_ids, row):
        """Prompt tokens into the cache, each time in the largest bucket that they fill by half or more, then padded."""
        while len(token_ids):
            length = max((size for size in self._buckets if size <= 2 * len(token_ids)), default=self._buckets[0])
            piece, token_ids = token_ids[:length], token_ids[length:]
            tokens = np.zeros((1, length), "int32")
            tokens[0, :len(piece)] = piece
            # Padding goes to the slots behind the piece, which the next tokens overwrite before any may be seen.
            positions = np.minimum(row.position + np.arange(length, dtype="int32"), self.max_sequence_length - 1)
            cache = self._call(f"prefill_{length}", {self._tokens: tokens, self._positions: positions, **row.cache})
            row = _Row(cache, row.position + len(piece))
        return row

    def prefill(self, token_ids, padding_mask, max_new_tokens):
        results = []
        for ids, real in zip(np.asarray(token_ids), np.asarray(padding_mask, bool), strict=True):
            ids = ids[real]
            row = self._read_row(ids[:-1], self._empty_row())
            results.append(self._decode_row(ids[-1] if len(ids) else 0, row))
        logits, rows = zip(*results, strict=True)
        return np.stack(logits), rows

    def decode(self, token_ids, state):
        logits, rows = zip(*(self._decode_row(each, row) for each, row in zip(token_ids, state, strict=True)),
                           strict=True)
        return np.stack(logits), rows

    def reorder(self, state, rows):
        return tuple(state[int(row)] for row in rows)  # a step makes new arrays, so rows may share theirs

"""TFLite files in LiteRT; neither TensorFlow nor Keras is needed."""
from typing import NamedTuple

import numpy as np

from kzoo.export.checked_decoder import CheckedDecoder
from kzoo.export.recurrent import RecurrentSession
from kzoo.export.session import Session, check_threads
from kzoo.export.signatures import forward_lengths, prefill_lengths
from kzoo.export.task_sessions import AnsweringSession, Seq2SeqSession, TextGenerationSession, sessions
from kzoo.export.tflite_buffers import BufferedFile


class _Row(NamedTuple):
    """One row of a batch. The file has batch size 1, so every row carries a cache of its own."""
    cache: tuple   # of `Carried`; empty before the first token
    position: int  # of the next token


EMPTY = _Row((), 0)  # what a call is not given is zeros


class TFLiteSession(Session):
    """A session on the signatures of a TFLite file, all of fixed shapes.

    Args:
        path: the .tflite file.
        threads: None means the physical cores.
        options: see `Session`.
    """

    runtime = "tflite"

    def __init__(self, path, threads=None, **options):
        super().__init__(**options)
        self._file = BufferedFile(path, check_threads(threads), self.signatures.values())

    def described(self):
        names = {signature.file_name: name for name, signature in self.file_signatures.items()}
        return {names.get(file_name, file_name): rows for file_name, rows in self._file.described().items()}

    def _call(self, signature, arrays, *carried):
        """A signature on arrays by our names, and on what earlier calls returned; see `BufferedFile.call`."""
        return self._file.call(self.signatures[signature], arrays, *carried)

    def _run(self, signature, arrays):
        found, carried = self._call(signature, arrays)
        return {**found, **carried.numpy()}


class TFLiteAnswering(TFLiteSession, AnsweringSession):
    """An encoder with a head: texts one by one, each in the shortest bucket that holds it."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        self._buckets = forward_lengths(self.sizes["max_sequence_length"])

    def _forward(self, arrays):
        rows = self.signatures["forward"].outputs
        shape = dict(zip(("batch_size", "sequence_length"), arrays["token_ids"].shape, strict=True))
        results = {row.name: np.zeros([shape.get(size, size) for size in row.shape], row.dtype) for row in rows}
        for b, mask in enumerate(arrays["padding_mask"]):
            length = int(np.flatnonzero(mask).max(initial=0)) + 1  # what follows is padding
            bucket = next(size for size in self._buckets if size >= length)
            inputs = {name: np.pad(array[b:b + 1, :length], ((0, 0), (0, bucket - length)))
                      for name, array in arrays.items()}
            form = self.signatures[f"forward_{bucket}"]
            outputs = self._run(form.name, {row.name: inputs[row.name].astype(row.dtype) for row in form.inputs})
            for row in rows:
                if "sequence_length" in row.shape:
                    results[row.name][b, :length] = outputs[row.name][0, :length]
                else:
                    results[row.name][b] = outputs[row.name][0]
        return results


class TFLiteSeq2Seq(TFLiteSession, Seq2SeqSession):
    """A model that reads a source before it writes: row by row, sources in the shortest bucket that holds them."""

    def __init__(self, path, sizes, **options):
        # The file is of fixed length, also where the model is not.
        limit = sizes["static_length"]
        longest_target = min(limit, sizes.get("max_target_length") or limit)
        super().__init__(path, sizes={**sizes, "max_sequence_length": limit, "max_target_length": longest_target},
                         **options)
        self._buckets = forward_lengths(self.max_sequence_length)

    def _read(self, token_ids, padding_mask):
        return _Targets(self, [self.read_source(ids, mask) for ids, mask in zip(token_ids, padding_mask, strict=True)])

    def read_source(self, token_ids, padding_mask):
        """What `decode` takes besides the target, for one source (S,): (arrays, carried)."""
        length = int(np.flatnonzero(padding_mask).max(initial=0)) + 1
        bucket = next((size for size in self._buckets if size >= length), None)
        if bucket is None:
            raise ValueError(f"A source of {length} tokens does not fit into this file, which reads "
                             f"{self._buckets[-1]}.")
        ids, mask = (np.pad(np.asarray(array[:length], "int32"), (0, bucket - length))[None]
                     for array in (token_ids, padding_mask))
        _, context = self._call(f"encode_{bucket}", {"encoder_token_ids": ids, "encoder_padding_mask": mask})
        return {"encoder_padding_mask": np.pad(mask, ((0, 0), (0, self._buckets[-1] - bucket)))}, context

    def step(self, token_id, source, row):
        """(logits (V,), row) after one more token."""
        arrays, context = source
        found, cache = self._call("decode", {"decoder_token_ids": np.array([[token_id]], "int32"),
                                             "positions": np.array([row.position], "int32"), **arrays},
                                  context, *row.cache)
        return found["logits"][0, 0], _Row((cache,), row.position + 1)

    def _forward(self, arrays):
        token_ids = arrays["decoder_token_ids"]
        logits = np.zeros((*token_ids.shape, self.vocabulary_size), "float32")
        for b, ids in enumerate(token_ids):
            source = self.read_source(arrays["encoder_token_ids"][b], arrays["encoder_padding_mask"][b])
            row = EMPTY
            for t, token_id in enumerate(ids):
                logits[b, t], row = self.step(token_id, source, row)
        return {"logits": logits}


class _Targets(CheckedDecoder):
    """Continues the targets of certain sources; the state is a list of (source, row)."""

    def __init__(self, session, sources):
        self.vocabulary_size, self.max_sequence_length = session.vocabulary_size, session.max_target_length
        self._session, self._sources, self.num_rows = session, sources, len(sources)

    def _prefill(self, token_ids, padding_mask, max_new_tokens):
        state = [(source, EMPTY) for source in self._sources]
        for column in np.asarray(token_ids).T:
            logits, state = self._decode(column, state)
        return logits, state

    def _decode(self, token_ids, state):
        steps = [self._session.step(each, *row) for each, row in zip(token_ids, state, strict=True)]
        return np.stack([logits for logits, _ in steps]), [
            (source, row) for (_, row), (source, _) in zip(steps, state, strict=True)]

    def _reorder(self, state, rows):
        return [state[int(row)] for row in rows]


class TFLiteGeneration(TFLiteSession, TextGenerationSession):
    """A decoder: prompts are read in buckets, padded tokens are left out; see `TFLiteSession`."""

    def __init__(self, path, sizes, **options):
        # The file has room for fewer tokens than the model where its export was told so.
        super().__init__(path, sizes={**sizes, "max_sequence_length": sizes["static_length"]}, **options)
        self._buckets = prefill_lengths(self.max_sequence_length)

    def _forward(self, arrays):
        """Token by token, the only way to logits of all of them; those of padding are zeros."""
        token_ids, mask = arrays["token_ids"], arrays["padding_mask"]
        logits = np.zeros((*token_ids.shape, self.vocabulary_size), "float32")
        for b, (ids, real) in enumerate(zip(token_ids, mask, strict=True)):
            row = EMPTY
            for t in np.flatnonzero(real):
                logits[b, t], row = self._decode_row(ids[t], row)
        return {"logits": logits}

    def _decode_row(self, token_id, row):
        """(logits (1, V), row) after one more token."""
        # No mask: what it would hide, the graph hides itself.
        found, cache = self._call("decode", {"token_ids": np.array([[token_id]], "int32"),
                                             "positions": np.array([row.position], "int32")}, *row.cache)
        return found["logits"][0], _Row((cache,), row.position + 1)

    def _read_row(self, token_ids, row):
        """Prompt tokens into the cache, each time in the largest bucket that they fill by half or more, then padded."""
        while len(token_ids):
            length = max((size for size in self._buckets if size <= 2 * len(token_ids)), default=self._buckets[0])
            piece, token_ids = token_ids[:length], token_ids[length:]
            tokens = np.zeros((1, length), "int32")
            tokens[0, :len(piece)] = piece
            # Padding goes to the slots behind the piece, which the next tokens overwrite before any may be seen.
            positions = np.minimum(row.position + np.arange(length, dtype="int32"), self.max_sequence_length - 1)
            _, cache = self._call(f"prefill_{length}", {"token_ids": tokens, "positions": positions}, *row.cache)
            row = _Row((cache,), row.position + len(piece))
        return row

    def _prefill(self, token_ids, padding_mask, max_new_tokens):
        results = []
        for ids, real in zip(np.asarray(token_ids), np.asarray(padding_mask, bool), strict=True):
            ids = ids[real]
            row = self._read_row(ids[:-1], EMPTY)
            results.append(self._decode_row(ids[-1] if len(ids) else 0, row))
        logits, rows = zip(*results, strict=True)
        return np.concatenate(logits), rows

    def _decode(self, token_ids, state):
        if len(state) == 1:  # the common case, whose share of a token's time shows
            logits, row = self._decode_row(token_ids[0], state[0])
            return logits, (row,)
        logits, rows = zip(*map(self._decode_row, token_ids, state), strict=True)
        return np.concatenate(logits), rows

    def _reorder(self, state, rows):
        return tuple(state[int(row)] for row in rows)  # a step makes new arrays, so rows may share theirs


class TFLiteRecurrent(TFLiteSession, RecurrentSession):
    """A decoder with a memory, row by row: segments of one length, then single tokens; see `TFLiteSession`."""

    def begin(self, rows):
        return [()] * rows  # a memory of zeros, all of it padding

    def width(self, length):
        return length if length == 1 else self.sizes["static_length"]

    def step(self, token_ids, padding_mask, state):
        found, after = [], []
        for ids, mask, memory in zip(token_ids.astype("int32"), padding_mask.astype("int32"), state, strict=True):
            arrays, memory = self._call("decode" if len(ids) == 1 else "prefill",
                                        {"token_ids": ids[None], "padding_mask": mask[None]}, *memory)
            found.append(arrays["logits"][0])
            after.append((memory,))
        return np.stack(found), after

    def _reorder(self, state, rows):
        return [state[int(row)] for row in rows]  # a step makes new arrays, so rows may share theirs


SESSIONS = sessions(TFLiteGeneration, TFLiteAnswering, TFLiteSeq2Seq, TFLiteRecurrent)

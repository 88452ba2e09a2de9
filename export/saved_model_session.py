"""SavedModels in TensorFlow; Keras is not needed."""
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from kzoo.export.recurrent import RecurrentSession
from kzoo.export.session import Session, check_threads
from kzoo.export.task_sessions import AnsweringSession, GrowingSeq2SeqSession, TextGenerationSession, sessions


class _State(NamedTuple):
    cache: Any         # file name -> tensor (B, S, K, D)
    padding_mask: Any  # bool (B, S)


class SavedModelSession(Session):
    """A session on the signatures of a SavedModel.

    Args:
        path: the folder that holds saved_model.pb.
        threads: None leaves TensorFlow's own choice; a process that has already run TensorFlow keeps what it has.
        options: see `Session`.
    """

    runtime = "savedmodel"

    def __init__(self, path, threads=None, **options):
        super().__init__(**options)
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(check_threads(threads))
        self._model = tf.saved_model.load(str(path))
        self._functions = dict(self._model.signatures)

    def described(self):
        names = {signature.file_name: name for name, signature in self.file_signatures.items()}
        result = {}
        for file_name, function in self._functions.items():
            sides = {"inputs": function.structured_input_signature[1], "outputs": function.structured_outputs}
            result[names.get(file_name, file_name)] = {
                side: {key: (tuple(spec.shape) if spec.shape.rank is not None else None, spec.dtype.name)
                       for key, spec in specs.items()} for side, specs in sides.items()}
        return result

    def _run(self, signature, arrays):
        return {name: value.numpy() for name, value in self._call_native(signature, arrays).items()}

    def _call_native(self, signature, feeds):
        form = self.file_signatures[signature]
        results = self._functions[form.file_name](
            **{row.file_name: tf.convert_to_tensor(feeds[row.name]) for row in form.inputs})
        return {row.name: results[row.file_name] for row in form.outputs}


class SavedModelAnswering(SavedModelSession, AnsweringSession):
    """An encoder with a head."""


class SavedModelSeq2Seq(SavedModelSession, GrowingSeq2SeqSession):
    """A model that reads a source before it writes."""

    def _to_numpy(self, value):
        return value.numpy()

    def _take_rows(self, value, rows):
        return tf.gather(value, rows)


class SavedModelGeneration(SavedModelSession, TextGenerationSession):
    """A decoder with a growing cache; see `SavedModelSession`."""

    def _prefill(self, token_ids, padding_mask, max_new_tokens):
        mask = np.asarray(padding_mask, bool)
        results = self._call_native("prefill", {"token_ids": np.asarray(token_ids, "int32"), "padding_mask": mask})
        return _last_logits(results), _State(_cache_of(results), mask)

    def _decode(self, token_ids, state):
        mask = np.pad(state.padding_mask, ((0, 0), (0, 1)), constant_values=True)
        feeds = {"token_ids": np.asarray(token_ids, "int32")[:, None], "padding_mask": mask, **state.cache}
        results = self._call_native("decode", feeds)
        return _last_logits(results), _State(_cache_of(results), mask)

    def _reorder(self, state, rows):
        rows = np.asarray(rows, "int32")
        return _State({name: tf.gather(value, rows) for name, value in state.cache.items()}, state.padding_mask[rows])


def _last_logits(results):
    return results["logits"][:, -1].numpy()


def _cache_of(results):
    return {name: value for name, value in results.items() if name != "logits"}


class SavedModelRecurrent(SavedModelSession, RecurrentSession):
    """A decoder with a memory; see `SavedModelSession`."""

    def step(self, token_ids, padding_mask, state):
        outputs = self._call_native("decode", {"token_ids": token_ids, "padding_mask": padding_mask, **state})
        return outputs.pop("logits").numpy(), outputs

    def _reorder(self, state, rows):
        return {name: tf.gather(value, rows) for name, value in state.items()}


SESSIONS = sessions(SavedModelGeneration, SavedModelAnswering, SavedModelSeq2Seq, SavedModelRecurrent)

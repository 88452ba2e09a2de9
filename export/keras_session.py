"""The live Keras model as a session: the reference that artifacts are compared with."""
import keras
import numpy as np
from keras import ops

from kzoo.export.checked_decoder import CheckedDecoder
from kzoo.export.recurrent import RecurrentSession
from kzoo.export.session import Session
from kzoo.export.signature_tables import kind_of
from kzoo.export.signatures import settings_of, sizes_of
from kzoo.export.task_sessions import AnsweringSession, Seq2SeqSession, TextGenerationSession, sessions
from kzoo.export.trace import run_signature


class KerasSession(Session):
    """A session on a live model, or on one loaded from a run folder.

    Args:
        path: a run folder, or a task model.
        threads: not used; the backend decides.
        options: see `Session`; for a live model they come from it.
    """

    runtime = "keras"

    def __init__(self, path, threads=None, **options):
        if not hasattr(path, "backbone"):
            from kzoo.saving import load

            self.model = load(path)
        else:
            self.model = path
        options = {"task": self.model.task, "sizes": sizes_of(self.model),
                   "settings": settings_of(self.model), "tokenizer": self.model.tokenizer,
                   **{name: value for name, value in options.items() if value is not None}}
        super().__init__(**options)

    def described(self):
        return None

    def differences(self):
        """What the manifest says otherwise than the model, which has no file that states names and shapes."""
        found = {"task": self.model.task, **sizes_of(self.model, self.sizes.get("static_length"))}
        return [f"{name} is {found.get(name)!r}, expected {value!r}"
                for name, value in {"task": self.task, **self.sizes}.items() if found.get(name) != value]

    def _run(self, signature, arrays):
        inputs = {name: ops.convert_to_tensor(array) for name, array in arrays.items()}
        outputs = run_signature(self.model, self.signatures[signature], inputs)
        return {name: np.asarray(ops.convert_to_numpy(tensor)) for name, tensor in outputs.items()}


class KerasAnswering(KerasSession, AnsweringSession):
    """An encoder with a head."""


class KerasSeq2Seq(KerasSession, Seq2SeqSession):
    """A model that reads a source before it writes."""

    def _read(self, token_ids, padding_mask):
        return _Targets(self.model.reader().read(token_ids, padding_mask), len(token_ids))


class _Live(CheckedDecoder):
    """What a live decoder is asked through; it makes room for the tokens that it is told of."""

    reserves = True

    def _prefill(self, token_ids, padding_mask, max_new_tokens):
        return self._decoder.prefill(token_ids, padding_mask, max_new_tokens)

    def _decode(self, token_ids, state):
        return self._decoder.decode(token_ids, state)

    def _reorder(self, state, rows):
        return self._decoder.reorder(state, rows)


class _Targets(_Live):
    """Continues the targets of certain sources."""

    def __init__(self, decoder, num_rows):
        self.vocabulary_size, self.max_sequence_length = decoder.vocabulary_size, decoder.max_sequence_length
        self._decoder, self.num_rows = decoder, num_rows


class KerasGeneration(KerasSession, _Live, TextGenerationSession):
    """A decoder; see `KerasSession`."""

    def __init__(self, path, **options):
        super().__init__(path, **options)
        self._decoder = self.model.decoder()


class KerasRecurrent(KerasSession, RecurrentSession):
    """A decoder with a memory; see `KerasSession`."""

    def begin(self, rows):
        return self.model.backbone.empty_cache(rows)

    def step(self, token_ids, padding_mask, state):
        inputs = {"token_ids": ops.convert_to_tensor(token_ids), "padding_mask": ops.convert_to_tensor(padding_mask)}
        logits, state = self.model.forward(inputs, state, training=False)
        return np.asarray(ops.convert_to_numpy(logits)), state

    def _reorder(self, state, rows):
        rows = ops.convert_to_tensor(np.asarray(rows, "int32"))
        return keras.tree.map_structure(lambda tensor: ops.take(tensor, rows, axis=0), state)


SESSIONS = sessions(KerasGeneration, KerasAnswering, KerasSeq2Seq, KerasRecurrent)


def live_session(model, sizes=None):
    """The session on a live model: the reference of verifications. `sizes`: a bundle's; None means the model's."""
    return SESSIONS[kind_of(model.task, sizes_of(model))](model, sizes=sizes)

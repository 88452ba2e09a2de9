"""What sessions of a task can do, whatever the runtime: continue text, answer it, write another one for it."""
import dataclasses
import functools

import numpy as np

from kzoo.export.checked_decoder import CheckedDecoder
from kzoo.export.session import Session
from kzoo.export.session_inputs import check_inputs
from kzoo.export.signature import Signature
from kzoo.export.signature_tables import RECURRENT, REWRITING
from kzoo.tasks.answering import TextModel
from kzoo.tasks.answers import ANSWERS
from kzoo.tasks.answers import answer as answer_texts
from kzoo.tasks.generate import generate as generate_tokens
from kzoo.tasks.seq2seq import BATCH_TOKENS, SourceReader, generate_targets


class AnsweringSession(Session):
    """A session of a task that answers a text at once, from its `forward`."""

    def __call__(self, *inputs, **options):
        """The task's answer to a text, or to each of a list of texts.

        Inputs, options and answers are those of the task's function in `kzoo.tasks.answers`.
        """
        model = TextModel(functools.partial(self.run, "forward"), self.tokenizer, self.sizes["max_sequence_length"],
                          self.sizes["num_segments"], self.settings)
        return answer_texts(self.task, model, *inputs, **options)

    answer = __call__

    @property
    def labels(self):
        """Names of the classes, in order; None for a task without any."""
        return self.settings.get("labels")


class TextGenerationSession(Session, CheckedDecoder):
    """A session that continues text: it is what the generate loop drives.

    A session gives `_prefill`, `_decode` and `_reorder`; see `kzoo.export.checked_decoder.CheckedDecoder`.
    """

    @property
    def vocabulary_size(self):
        return self.sizes["vocabulary_size"]

    @property
    def max_sequence_length(self):
        return self.sizes["max_sequence_length"] or None

    def generate(self, inputs, stream=None, **options):
        """Continue text or token ids; see `kzoo.tasks.generate.generate` for inputs and options."""
        return generate_tokens(self, self.tokenizer, inputs, stream=stream, **options)

    def __call__(self, inputs, **options):
        """The task's answer to a text, or to each of a list of texts."""
        return self.generate(inputs, **options)


class Seq2SeqSession(Session, SourceReader):
    """A session that translates or summarises: it reads sources, which the generate loop then drives targets of."""

    def __init__(self, **options):
        super().__init__(**options)
        self.vocabulary_size = self.sizes["vocabulary_size"]
        self.source_vocabulary_size = self.sizes["source_vocabulary_size"]
        self.max_sequence_length = self.sizes["max_sequence_length"] or None
        self.max_target_length = self.sizes.get("max_target_length") or self.max_sequence_length
        self.decoder_start_id, self.eos_id, self.generation_defaults = (
            self.settings[name] for name in ("decoder_start_id", "eos_id", "generation_defaults"))
        rows = tuple(dataclasses.replace(row, optional=False) for row in self.signatures["forward"].inputs[:2])
        self._sources = Signature("read", "read", rows, ())

    def read(self, token_ids, padding_mask):
        """See `SourceReader`. Raises: ValueError naming the argument that does not fit."""
        given = {"encoder_token_ids": token_ids, "encoder_padding_mask": padding_mask}
        arrays = check_inputs(self._sources, given, self.sizes)
        return self._read(arrays["encoder_token_ids"], arrays["encoder_padding_mask"])

    def _read(self, token_ids, padding_mask):
        raise NotImplementedError(f"{type(self).__name__} must define `_read`.")

    def generate(self, inputs, stream=None, truncate=False, batch_tokens=BATCH_TOKENS, **options):
        """A target for each source; see `kzoo.tasks.seq2seq.generate_targets` for inputs and options."""
        return generate_targets(self, self.tokenizer, inputs, stream, truncate, batch_tokens, **options)

    __call__ = generate


class GrowingSeq2SeqSession(Seq2SeqSession):
    """One with `encode`, `prefill` and `decode` of any batch size and length.

    A runtime writes these three, so that caches do not pass through numpy from one step to the next.
    """

    def _call_native(self, signature, feeds):
        """A signature on the runtime's own values, or arrays, by our names; returns its own values by our names."""
        raise NotImplementedError(f"{type(self).__name__} must define `_call_native`.")

    def _to_numpy(self, value):
        raise NotImplementedError(f"{type(self).__name__} must define `_to_numpy`.")

    def _take_rows(self, value, rows):
        """A value of the runtime with these rows of another one; rows may repeat or be missing."""
        raise NotImplementedError(f"{type(self).__name__} must define `_take_rows`.")

    def _read(self, token_ids, padding_mask):
        feeds = {"encoder_token_ids": token_ids, "encoder_padding_mask": padding_mask}
        return _GrowingTargets(self, padding_mask, self._call_native("encode", feeds))


class _GrowingTargets(CheckedDecoder):
    """Continues the targets of certain sources. Its state is what `decode` takes besides the tokens."""

    def __init__(self, session, padding_mask, encoded):
        self.vocabulary_size, self.max_sequence_length = session.vocabulary_size, session.max_target_length
        self._session, self._padding_mask, self._encoded = session, padding_mask, encoded
        self.num_rows = len(padding_mask)

    def _prefill(self, token_ids, padding_mask, max_new_tokens):
        feeds = {"encoder_padding_mask": self._padding_mask, "decoder_token_ids": token_ids}
        outputs = self._session._call_native("prefill", {**feeds, **self._encoded})
        return self._logits(outputs), {"encoder_padding_mask": self._padding_mask, **outputs}

    def _decode(self, token_ids, state):
        outputs = self._session._call_native(
            "decode", {"decoder_token_ids": np.asarray(token_ids, "int32")[:, None], **state})
        return self._logits(outputs), {**state, **outputs}

    def _logits(self, outputs):
        return self._session._to_numpy(outputs.pop("logits"))[:, -1]

    def _reorder(self, state, rows):
        rows, mask = np.asarray(rows), state["encoder_padding_mask"]
        if np.array_equal(rows, np.arange(len(mask))):
            return state
        return {name: mask[rows] if name == "encoder_padding_mask" else self._session._take_rows(value, rows)
                for name, value in state.items()}


def sessions(generating, answering, rewriting, recurrent):
    """The `SESSIONS` of a runtime: what `kind_of` says -> class."""
    return {"text-generation": generating, RECURRENT: recurrent, **dict.fromkeys(ANSWERS, answering),
            **dict.fromkeys(REWRITING, rewriting)}

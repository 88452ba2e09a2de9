"""From texts to other texts: translation and summarization, by the live model or any exported artifact.

Numpy only. A runtime takes part by being a `SourceReader`; each batch of sources it reads becomes a `TokenDecoder`,
which the one loop of `kzoo.tasks.generate` drives.
"""
import abc
import functools
import warnings

import numpy as np

from kzoo.tasks.generate import GenerationOptions, check_stream, generate_ids
from kzoo.tasks.prompts import read_inputs, round_up, with_tokens
from kzoo.tasks.text_stream import TextStream, continuation

BATCH_TOKENS = 4096
WIDTH = 16  # sources are padded to a power of two times this, so that shapes repeat


class SourceReader(abc.ABC):
    """What generation needs of a runtime that reads a whole source before it writes.

    Attributes:
        source_vocabulary_size: ids of sources are below it.
        max_sequence_length: most tokens in a source, and in a target; None = no limit.
        decoder_start_id: what every target begins with.
        eos_id: the id that ends a source.
        generation_defaults: dict of options that differ from those of `GenerationOptions`.
    """

    source_vocabulary_size: int
    max_sequence_length: int | None
    decoder_start_id: int
    eos_id: int
    generation_defaults: dict

    @abc.abstractmethod
    def read(self, token_ids, padding_mask):
        """A `TokenDecoder` that continues targets, its rows those of the sources.

        Args:
            token_ids: int32 (B, S), padded on the right.
            padding_mask: bool (B, S), True = a real token.
        """


def generate_targets(reader, tokenizer, inputs, stream=None, truncate=False, batch_tokens=BATCH_TOKENS, **options):
    """What the model makes of each source; behind `model.generate` of translation and summarization.

    Many sources go in batches of similar length; a row's target does not depend on the other rows.

    Args:
        reader: a `SourceReader`.
        tokenizer: a `kzoo.tokenizers.Tokenizer`; None serves for token ids without stop texts.
        inputs: a text, a list of texts, a list of token ids, a list of such lists, or an integer array (S,) or (B, S).
        stream: called with each new piece of text as soon as it is certain, or with each new id if `inputs` are ids.
            For one source and without beams. The pieces joined are the target.
        truncate: cut sources that are longer than the model instead of refusing them.
        batch_tokens: most tokens that go through the model at once: source tokens, padding included, times beams.
        **options: the fields of `GenerationOptions`.

    Returns: a target for each source: a text for a text; for ids the target's ids, without the one it starts from, the
        ending token included; a list for a list.
    Raises: ValueError for an empty source, one longer than the model, ids outside the vocabulary, an unknown or illegal
        option; TypeError for other inputs. Warns of targets that end only because `max_new_tokens` is not given.
    """
    given = options
    options = GenerationOptions.from_dict({**reader.generation_defaults, **given})
    sources = read_inputs(inputs, tokenizer, functools.partial(source_ids, eos_id=reader.eos_id))
    if stream is not None:
        check_stream(stream, sources.ids, options)
    rows = [_fitted(reader, row, ids, truncate) for row, ids in enumerate(with_tokens(sources.ids, what="Source"))]
    streamed = _Streamed(stream, None if sources.texts is None else tokenizer, reader, options)

    found = [None] * len(rows)
    for batch in token_batches([len(ids) for ids in rows], batch_tokens, options.num_beams):
        decoder = reader.read(*right_padded([rows[row] for row in batch]))
        continued = generate_ids(decoder, [[reader.decoder_start_id]] * len(batch), options, tokenizer,
                                 streamed.on_token, numbers=batch)
        for row, ids in zip(batch, continued, strict=True):
            found[row] = ids[1:]
    streamed.finish()
    if "max_new_tokens" not in given:
        _warn_of_cuts(found, options, tokenizer)
    if sources.texts is not None:
        found = [continuation(tokenizer, [reader.decoder_start_id], ids, options.stop) for ids in found]
    return found[0] if sources.single else found


def source_ids(tokenizer, text, eos_id):
    """The ids of a source: as the tokenizer's files say, and closed by the token that ends a row in any case."""
    if tokenizer is None:
        raise ValueError("Text `inputs` need a tokenizer, and this model has none: pass token ids.")
    if not tokenizer.encode(text, add_special_tokens=False):
        return []  # which is refused, by the number of its row
    ids = list(tokenizer.encode(text))
    return ids if ids[-1] == eos_id else [*ids, eos_id]


def token_batches(lengths, batch_tokens=BATCH_TOKENS, num_beams=1):
    """Rows in batches of similar length, the longest first: lists of row numbers.

    Args:
        lengths: number of tokens of each row.
        batch_tokens: most tokens in a batch, padding included, times beams; a single row may have more.
        num_beams: rows of a batch for each of its sources.
    """
    if batch_tokens < 1:
        raise ValueError(f"`batch_tokens` must be at least 1. Received: {batch_tokens}.")
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches, start = [], 0
    while start < len(order):
        fitting = max(batch_tokens // (round_up(lengths[order[start]], WIDTH) * num_beams), 1)
        count = 1 << fitting.bit_length() - 1  # a power of two, so that shapes repeat
        batches.append(order[start:start + count])
        start += count
    return batches


def right_padded(rows):
    """int32 (B, S) and its bool mask, True = a real token."""
    lengths = np.array([len(row) for row in rows])
    padding_mask = np.arange(lengths.max()) < lengths[:, None]  # (B, S)
    token_ids = np.zeros(padding_mask.shape, "int32")
    token_ids[padding_mask] = np.concatenate(rows)
    return token_ids, padding_mask


def _fitted(reader, row, ids, truncate):
    """One source, checked and perhaps cut."""
    outside = next((each for each in ids if not 0 <= each < reader.source_vocabulary_size), None)
    if outside is not None:
        raise ValueError(f"Token ids must be at least 0 and below vocabulary_size={reader.source_vocabulary_size}. "
                         f"Received: {outside} in source {row}.")
    longest = reader.max_sequence_length
    if longest is None or len(ids) <= longest:
        return ids
    if not truncate:
        raise ValueError(f"Source {row} has {len(ids)} tokens, and the model reads at most {longest} "
                         "(`max_sequence_length`). Split it, or pass truncate=True to leave its end out.")
    return ids[:longest - 1] + ids[-1:] if ids[-1] == reader.eos_id else ids[:longest]


class _Streamed:
    """Hands pieces of text, or ids where there is no tokenizer, to `stream` as they come."""

    def __init__(self, stream, tokenizer, reader, options):
        self._stream, self._text = stream, None
        if stream is not None and tokenizer is not None:
            self._text = TextStream(tokenizer, [reader.decoder_start_id], options.stop)
        self.on_token = None if stream is None else self._take

    def _take(self, row, token_id):
        self._give(token_id if self._text is None else self._text.push(token_id))

    def _give(self, piece):
        if piece != "":
            self._stream(piece)

    def finish(self):
        if self._text is not None:
            self._give(self._text.finish())


def _warn_of_cuts(targets, options, tokenizer):
    eos = options.eos_ids(tokenizer)
    natural = options.forced_eos_token_id is None  # otherwise each target ends that way
    cut = [row for row, ids in enumerate(targets)
           if len(ids) >= options.max_new_tokens and not (natural and ids[-1] in eos)]
    if cut:
        warnings.warn(f"{len(cut)} of {len(targets)} targets reached max_new_tokens={options.max_new_tokens}, the "
                      f"default, and may be cut short, first in row {cut[0]}. Ask for more.", stacklevel=4)

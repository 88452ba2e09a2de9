"""How text comes out: one loop for the live model and for every exported artifact.

Numpy only: an application that runs an ONNX or TFLite file needs neither Keras nor TensorFlow for it. A runtime takes
part by being a `TokenDecoder`.
"""
import abc
import warnings

import numpy as np

from kzoo.tasks.beams import beam_search
from kzoo.tasks.options import GenerationOptions
from kzoo.tasks.prompts import left_padded, read_inputs, together, with_tokens
from kzoo.tasks.sampling import next_tokens, row_generator
from kzoo.tasks.text_stream import TextStream, continuation, holds_stop

__all__ = ["GenerationOptions", "TextStream", "TokenDecoder", "generate", "generate_ids"]


class TokenDecoder(abc.ABC):
    """What generation needs of a runtime.

    The state is a value: `decode` and `reorder` return a new one, and the loop never looks inside. Whether the old one
    still works afterwards is up to the runtime; the loop does not use it again.

    Attributes:
        vocabulary_size: V.
        max_sequence_length: most tokens in a row, prompt included; None = no limit.
    """

    vocabulary_size: int
    max_sequence_length: int | None

    @abc.abstractmethod
    def prefill(self, token_ids, padding_mask, max_new_tokens):
        """Read the prompts.

        Args:
            token_ids: int32 (B, T), padded on the left.
            padding_mask: bool (B, T), True = a real token. The first real token has position 0.
            max_new_tokens: most tokens that will follow; T plus this is at most `max_sequence_length`.

        Returns: (logits, state), logits float32 (B, V) of the last column.
        """

    @abc.abstractmethod
    def decode(self, token_ids, state):
        """Add one token, int32 (B,), to every row; returns (logits, state) as `prefill` does."""

    @abc.abstractmethod
    def reorder(self, state, rows):
        """The state whose row i is row `rows[i]`, int (B2,), of this one; rows may repeat or be missing."""


def generate(decoder, tokenizer, inputs, stream=None, **options):
    """Continue text or token ids; behind `model.generate` and `session.generate`.

    Args:
        decoder: a `TokenDecoder`.
        tokenizer: a `kzoo.tokenizers.Tokenizer`; None serves for token ids without stop texts.
        inputs: a text, a list of texts, a list of token ids, a list of such lists, or an integer array (T,) or (B, T).
        stream: called with each new piece of text as soon as it is certain, or with each new id if `inputs` are ids.
            For one prompt and without beams. The pieces joined are the text that is added.
        **options: the fields of `GenerationOptions`.

    Returns: what came in, continued: a text for a text, ids for ids, prompt included, and a list for a list.
    Raises: ValueError for an empty prompt if the tokenizer has no beginning-of-sequence token, a prompt longer than
        the context, ids outside the vocabulary, an unknown or illegal option; TypeError for other inputs.
    """
    options = GenerationOptions.from_dict(options)
    prompts = read_inputs(inputs, tokenizer)
    if stream is not None:
        check_stream(stream, prompts.ids, options)
    ids = with_tokens(prompts.ids, tokenizer)
    text_stream, on_token = None, None
    if stream is not None and prompts.texts is None:
        def on_token(row, token_id):
            stream(token_id)
    elif stream is not None:
        text_stream = TextStream(tokenizer, ids[0], options.stop)

        def on_token(row, token_id):
            _emit(stream, text_stream.push(token_id))

    results = generate_ids(decoder, ids, options, tokenizer, on_token)
    if text_stream is not None:
        _emit(stream, text_stream.finish())
    if prompts.texts is not None:
        results = [text + continuation(tokenizer, prompt, result[len(prompt):], options.stop)
                   for text, prompt, result in zip(prompts.texts, ids, results, strict=True)]
    return results[0] if prompts.single else results


def generate_ids(decoder, prompts, options=None, tokenizer=None, on_token=None, numbers=None):
    """Continue rows of token ids.

    A row is continued as it would be alone, whatever the lengths of the others and whenever they finish.

    Args:
        decoder: a `TokenDecoder`.
        prompts: list of lists of token ids, of any lengths.
        options: `GenerationOptions`; None = the defaults.
        tokenizer: gives the id that begins an empty prompt, the id that ends a row if the options name none, and the
            text in which stop texts are looked for.
        on_token: called with (row, id) for each new token; not with beams.
        numbers: of the rows, where the prompts are part of a longer list; None counts them from 0. They choose a row's
            random numbers, and stand in what is told of it.

    Returns: list of lists: prompt and new ids, the ending token included.
    Raises: ValueError for prompts or options that do not fit the decoder. Warns when a row ends only because
        `max_sequence_length` is reached.
    """
    options = GenerationOptions() if options is None else options
    if options.stop and tokenizer is None:
        raise ValueError("`stop` needs a tokenizer: stop texts are looked for in the text. Use `eos_token_id` for ids.")
    if on_token is not None and options.num_beams > 1:
        raise ValueError("`on_token` needs num_beams=1, because beams change their tokens later. "
                         f"Received: {options.num_beams}.")
    prompts = with_tokens(prompts, tokenizer)
    numbers = range(len(prompts)) if numbers is None else numbers
    _check_ids(decoder, prompts, options)
    eos = tuple(each for each in options.eos_ids(tokenizer) if each < decoder.vocabulary_size)

    added = [[] for _ in prompts]
    for rows, limit in together([len(prompt) for prompt in prompts], options.max_new_tokens,
                                decoder.max_sequence_length):
        if limit == 0:
            continue
        token_ids, padding_mask = left_padded([prompts[row] for row in rows], options.pad_token_id)
        if options.num_beams > 1:
            def stops(i, new, rows=rows):
                return holds_stop(tokenizer, prompts[rows[i]], new, options.stop)

            found = beam_search(decoder, token_ids, padding_mask, limit, options, eos, stops if options.stop else None)
        else:
            streams = [TextStream(tokenizer, prompts[row], options.stop) for row in rows] if options.stop else None
            found = _token_by_token(decoder, token_ids, padding_mask, limit, options, eos,
                                    [numbers[row] for row in rows], streams, on_token)
        for row, new in zip(rows, found, strict=True):
            added[row] = new
    cut = [numbers[row] for row, new in enumerate(added) if len(new) < options.max_new_tokens
           and not (new and new[-1] in eos)
           and not (options.stop and holds_stop(tokenizer, prompts[row], new, options.stop))]
    if cut:
        rows = f"row{'s' * (len(cut) > 1)} {', '.join(map(str, cut))}"
        warnings.warn(f"Generation stopped at max_sequence_length={decoder.max_sequence_length}, before "
                      f"max_new_tokens={options.max_new_tokens}, in {rows}.", stacklevel=2)
    return [prompt + new for prompt, new in zip(prompts, added, strict=True)]


def _token_by_token(decoder, token_ids, padding_mask, limit, options, eos, rows, streams, on_token):
    """Greedy search or sampling of one group, its rows numbered by `rows`; returns B lists of new ids."""
    starts = token_ids.shape[1] - padding_mask.sum(axis=1)
    added = [[] for _ in rows]
    generators = [row_generator(options.seed, row) for row in rows] if options.do_sample else None
    active = list(range(len(rows)))  # the rows that the decoder still holds, in its order
    logits, state = decoder.prefill(token_ids, padding_mask, limit)
    # Lists where they serve: after a step of the model nothing of ours is left in the processor's caches, and each
    # function of numpy then takes ten times as long as alone.
    for length in range(limit):
        def histories(active=active):
            return [np.concatenate([token_ids[i, starts[i]:], np.array(added[i], "int32")]) for i in active]

        tokens = next_tokens(np.asarray(logits, "float32"), histories, length, limit, options, eos,
                             generators and [generators[i] for i in active])
        going = []
        for place, (i, token) in enumerate(zip(active, tokens.tolist(), strict=True)):
            added[i].append(token)
            if on_token is not None:
                on_token(rows[i], token)
            if streams is not None:
                streams[i].push(token)
            if token not in eos and not (streams is not None and streams[i].stopped):
                going.append(place)
        if not going or length + 1 == limit:
            break
        if len(going) < len(active):  # the others go on alone: no work is spent on finished rows
            active, tokens, state = [active[place] for place in going], tokens[going], decoder.reorder(state, going)
        logits, state = decoder.decode(tokens, state)
    return added


def check_stream(stream, prompts, options):
    """Refuse a `stream` that cannot be served."""
    if not callable(stream):
        raise TypeError(f"`stream` must be a function of one piece. Received: {stream!r}.")
    if len(prompts) != 1 or options.num_beams != 1:
        raise ValueError("`stream` needs a single prompt and num_beams=1. "
                         f"Received: {len(prompts)} prompts, num_beams={options.num_beams}.")


def _check_ids(decoder, prompts, options):
    vocabulary, context = decoder.vocabulary_size, decoder.max_sequence_length
    for row, prompt in enumerate(prompts):
        outside = next((each for each in prompt if not 0 <= each < vocabulary), None)
        if outside is not None:
            raise ValueError(f"Token ids must be at least 0 and below vocabulary_size={vocabulary}. "
                             f"Received: {outside} in prompt {row}.")
        if context is not None and len(prompt) > context:
            raise ValueError(f"A prompt must fit into max_sequence_length={context} tokens. "
                             f"Received: {len(prompt)} tokens in prompt {row}; shorten it.")
    if max(options.named_ids()) >= vocabulary:
        raise ValueError(f"`eos_token_id`, `pad_token_id` and the like must be below vocabulary_size={vocabulary}. "
                         f"Received: {max(options.named_ids())}.")


def _emit(stream, piece):
    if piece:
        stream(piece)

"""What `explain` reads of a text, and which number of the model's answer it explains."""
import dataclasses

import numpy as np

TASKS = ("text-generation", "fill-mask", "text-classification", "token-classification", "translation", "summarization")
REWRITING = ("translation", "summarization")
PLACED = ("token-classification", *REWRITING)  # tasks whose answer has a place that a caller may choose


@dataclasses.dataclass(frozen=True)
class Reading:
    """Rows of token ids for a model, and the log-probability of its output that is explained.

    Attributes:
        rows: name of a model's input -> its token ids; the tokens shown are those of all rows, one after the other.
        question: what is explained, in words.
        answer: the token or label that is explained, as text.
        position: where among the tokens shown the answer stands; None for one that is of the whole text.
        place: its place in the model's output; None as above.
        index: the class in that output.
    """
    rows: dict
    question: str
    answer: str
    position: int | None
    place: int | None
    index: int

    def ids(self):
        """Those of all rows."""
        return [index for row in self.rows.values() for index in row]

    def inputs(self, batch_size=1):
        """The model's inputs, each row repeated."""
        return {name: np.tile(np.array([row], "int32"), (batch_size, 1)) for name, row in self.rows.items()}


def read(model, text, position=None, answer=None):
    """The `Reading` of a text; arguments and errors are those of `explain`."""
    from kzoo.tasks.answering import check_tokenizer

    if getattr(model, "task", None) not in TASKS:
        raise ValueError(f"`explain` reads models of the tasks {', '.join(TASKS)}. "
                         f"The model's task is {getattr(model, 'task', None)!r}.")
    check_tokenizer(model)
    if not isinstance(text, str):
        raise TypeError(f"`text` must be a text. Received: {type(text).__name__}.")
    if position is not None and model.task not in PLACED:
        raise ValueError(f"`position` is for {', '.join(PLACED)}. The model's task is {model.task!r}.")
    return (_read_rewriter if model.task in REWRITING else _read_stack)(model, text, position, answer)


def token_text(tokenizer, index):
    """How a token is shown."""
    return tokenizer.decode([int(index)]) or tokenizer.id_to_token(int(index))


def _read_stack(model, text, position, answer):
    ids = _token_ids(model, text)
    rows, labels = {"token_ids": ids}, model.settings().get("labels")
    if position is not None:
        _check_position(position, len(ids))
    logits = _outputs(model, rows)  # (T, V), (T, N) or (N,)
    if model.task == "text-generation":
        position, question = len(ids) - 1, "The next token"
    elif model.task == "fill-mask":
        position, question = ids.index(model.tokenizer.mask_id), "The token behind the mask"
    elif model.task == "token-classification":
        if position is None:
            position = int(_log_softmax(logits).max(axis=-1).argmax())
        question = f"The label of {token_text(model.tokenizer, ids[position])!r}"
    else:
        question = "The label"
    row = logits if position is None else logits[position]
    index = int(row.argmax()) if answer is None else _index_of(model, labels, answer)
    answer = labels[index] if labels else token_text(model.tokenizer, index)
    return Reading(rows, question, answer, position, position, index)


def _read_rewriter(model, text, position, answer):
    """The source, and what the model writes before the token that is explained."""
    from kzoo.models.encoder_decoder import SOURCE, TARGET
    from kzoo.tasks.prompts import with_tokens
    from kzoo.tasks.seq2seq import source_ids

    source = with_tokens([source_ids(model.tokenizer, text, model.config.eos_id)], what="Source")[0]
    place = 0 if position is None else position
    written = model.generate([source], max_new_tokens=place + 1)[0]
    _check_position(place, len(written))
    rows = {SOURCE: source, TARGET: [model.config.decoder_start_id, *written[:place]]}
    index = written[place] if answer is None else _index_of(model, None, answer)
    return Reading(rows, f"Token {place} of the answer", token_text(model.tokenizer, index), len(source) + place, place,
                   int(index))


def _outputs(model, rows):
    from keras import ops

    return ops.convert_to_numpy(model({name: np.array([row], "int32") for name, row in rows.items()}))[0]


def _check_position(position, count):
    if not 0 <= position < count:
        raise ValueError(f"`position` must be at least 0 and below {count}. Received: {position}.")


def _index_of(model, labels, answer):
    if labels is not None:
        if answer not in labels:
            raise ValueError(f"`answer` must be one of the labels {', '.join(labels)}. Received: {answer!r}.")
        return labels.index(answer)
    ids = model.tokenizer.encode(answer, add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(f"`answer` must be one token; {answer!r} is {len(ids)}.")
    return ids[0]


def _token_ids(model, text):
    """list of int, as a task of one stack reads a text."""
    from kzoo.tasks.answering import add_special_tokens

    if model.task == "text-generation":
        from kzoo.tasks.prompts import read_inputs, with_tokens

        return with_tokens(read_inputs(text, model.tokenizer).ids, model.tokenizer)[0]
    marked = model.task == "fill-mask"
    if marked and model.tokenizer.mask_id is None:
        raise ValueError("The tokenizer has no mask token, so there is nothing to explain.")
    encoding = model.tokenizer.encode_with_offsets(text, recognise_special_tokens=True if marked else None)
    ids = add_special_tokens(_Limits(model.tokenizer, model.config.max_sequence_length), [encoding.ids])[0]
    if marked and model.tokenizer.mask_id not in ids:
        raise ValueError(f"The text holds no {model.tokenizer.roles['mask']} to fill in. Received: {text!r:.200}.")
    return ids


@dataclasses.dataclass(frozen=True)
class _Limits:
    """What `add_special_tokens` asks a model."""
    tokenizer: object
    max_sequence_length: int | None


def _log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))

"""What `explain` reads of a text, and which number of the model's answer it explains."""
import dataclasses

import numpy as np

TASKS = ("text-generation", "fill-mask", "text-classification", "token-classification", "question-answering",
         "translation", "summarization")
REWRITING = ("translation", "summarization")
PLACED = ("token-classification", *REWRITING)  # tasks whose answer has a place that a caller may choose


@dataclasses.dataclass(frozen=True)
class Reading:
    """Rows of token ids for a model, and the log-probability of its output that is explained.

    Attributes:
        text: what is read, in words.
        rows: name of a model's input -> its token ids; the tokens shown are those of all rows, one after the other.
        question: what is explained, in words.
        answer: the token or label that is explained, as text.
        position: where among the tokens shown the answer stands; None for one that is of the whole text.
        terms: of the log-probability, which is their sum: name of the output (None for the only one), place in it (None
            where there are no places), and class.
        segment_ids: of the row, for models that tell segments apart; or None.
    """
    text: str
    rows: dict
    question: str
    answer: str
    position: int | None
    terms: tuple
    segment_ids: list | None = None

    def ids(self):
        """Those of all rows."""
        return [index for row in self.rows.values() for index in row]

    def inputs(self, batch_size=1):
        """The model's inputs, each row repeated."""
        rows = self.rows if self.segment_ids is None else {**self.rows, "segment_ids": self.segment_ids}
        return {name: np.tile(np.array([row], "int32"), (batch_size, 1)) for name, row in rows.items()}

    def log_probability(self, outputs):
        """float32 (B,) from the model's outputs."""
        from keras import ops

        total = 0.0
        for name, place, index in self.terms:
            logits = outputs if name is None else outputs[name]
            logits = ops.cast(logits if place is None else logits[:, place], "float32")
            total = total + ops.log_softmax(logits, axis=-1)[:, index]
        return total


def read(model, text, position=None, answer=None):
    """The `Reading` of a text; arguments and errors are those of `explain`."""
    from kzoo.tasks.answering import check_tokenizer

    if getattr(model, "task", None) not in TASKS:
        raise ValueError(f"`explain` reads models of the tasks {', '.join(TASKS)}. "
                         f"The model's task is {getattr(model, 'task', None)!r}.")
    check_tokenizer(model)
    if model.task == "question-answering":
        return _read_question(model, text, position, answer)
    if not isinstance(text, str):
        raise TypeError(f"`text` must be a text. Received: {type(text).__name__}.")
    if position is not None and model.task not in PLACED:
        raise ValueError(f"`position` is for {', '.join(PLACED)}. The model's task is {model.task!r}.")
    return (_read_rewriter if model.task in REWRITING else _read_stack)(model, text, position, answer)


def token_text(tokenizer, index):
    """How a token is shown."""
    return tokenizer.decode([int(index)]) or tokenizer.id_to_token(int(index))


def _read_stack(model, text, position, answer):
    from keras import ops

    from kzoo.tasks.sampling import log_softmax

    ids = _token_ids(model, text)
    rows, labels = {"token_ids": ids}, model.settings().get("labels")
    if position is not None:
        _check_position(position, len(ids))
    logits = ops.convert_to_numpy(model({"token_ids": np.array([ids], "int32")}))[0]  # (T, V), (T, N) or (N,)
    if model.task == "text-generation":
        position, question = len(ids) - 1, "The next token"
    elif model.task == "fill-mask":
        position, question = ids.index(model.tokenizer.mask_id), "The token behind the mask"
    elif model.task == "token-classification":
        if position is None:
            position = int(log_softmax(logits).max(axis=-1).argmax())
        question = f"The label of {token_text(model.tokenizer, ids[position])!r}"
    else:
        question = "The label"
    row = logits if position is None else logits[position]
    index = int(row.argmax()) if answer is None else _index_of(model, labels, answer)
    answer = labels[index] if labels else token_text(model.tokenizer, index)
    return Reading(text, rows, question, answer, position, ((None, position, index),))


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
    return Reading(text, rows, f"Token {place} of the answer", token_text(model.tokenizer, index),
                   len(source) + place, ((None, place, int(index)),))


def _read_question(model, text, position, answer):
    """Question and context in one row; the answer is where it begins and where it ends, by one softmax each."""
    from keras import ops

    from kzoo.tasks.answers import best_span, read_questions
    from kzoo.tasks.windows import question_windows

    if position is not None or answer is not None:
        raise ValueError("Question answering explains the answer that the model gives: leave `position` and `answer` "
                         "out.")
    if not isinstance(text, dict):
        raise TypeError("`text` of question-answering is a dict with the texts `question` and `context`, or on the "
                        f"command line the context, beside --question. Received: {type(text).__name__}.")
    (asked, context), = read_questions(text)[0]
    encoding = model.tokenizer.encode_with_offsets(context)
    windows = question_windows(model.tokenizer, model.tokenizer.encode(asked, add_special_tokens=False), encoding.ids,
                               model.config.max_sequence_length)
    if len(windows) != 1:
        raise ValueError("Only what the model reads at once can be explained, and `context` is "
                         f"{'too long for it' if windows else 'empty'}. Received: {len(encoding.ids)} tokens; the "
                         f"model reads {model.config.max_sequence_length}, the question among them.")
    window, = windows
    reading = Reading(f"{asked} {context}", {"token_ids": window.token_ids}, "The answer", "", None, (),
                      window.segment_ids if getattr(model.config, "num_segments", 0) > 1 else None)
    outputs = {name: ops.convert_to_numpy(row)[0] for name, row in model(reading.inputs()).items()}
    first, last, _ = best_span(windows, [outputs], len(encoding.ids), len(encoding.ids))
    return dataclasses.replace(
        reading, answer=context[encoding.offsets[first][0]:encoding.offsets[last][1]], position=window.first + first,
        terms=(("start_logits", None, window.first + first), ("end_logits", None, window.first + last)))


def _check_position(position, count):
    if not 0 <= position < count:
        raise ValueError(f"`position` must be at least 0 and below {count}. Received: {position}.")


def _index_of(model, labels, answer):
    if labels is not None:
        if answer not in labels:
            raise ValueError(f"`answer` must be one of the labels {', '.join(labels)}. Received: {answer!r}.")
        return labels.index(answer)
    ids = model.tokenizer.targets.encode(answer, add_special_tokens=False)
    if len(ids) != 1:
        raise ValueError(f"`answer` must be one token; {answer!r} is {len(ids)}.")
    return ids[0]


def _token_ids(model, text):
    """list of int, as a task of one stack reads a text."""
    from kzoo.tasks.answering import TextModel, add_special_tokens

    if model.task == "text-generation":
        from kzoo.tasks.prompts import read_inputs, with_tokens

        return with_tokens(read_inputs(text, model.tokenizer).ids, model.tokenizer)[0]
    marked = model.task == "fill-mask"
    if marked and model.tokenizer.mask_id is None:
        raise ValueError("The tokenizer has no mask token, so there is nothing to explain.")
    encoding = model.tokenizer.encode_with_offsets(text, recognise_special_tokens=True if marked else None)
    read_by = TextModel(None, model.tokenizer, model.config.max_sequence_length, 0, {})  # asked for its limits alone
    ids = add_special_tokens(read_by, [encoding.ids])[0]
    if marked and model.tokenizer.mask_id not in ids:
        raise ValueError(f"The text holds no {model.tokenizer.roles['mask']} to fill in. Received: {text!r:.200}.")
    return ids

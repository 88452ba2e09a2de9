"""What each task answers to text, from a model's outputs. Numpy only.

Each function takes a `TextModel` and a text, or a list of texts, and returns an answer, or a list of answers.
"""
import inspect

import numpy as np

from kzoo.errors import unknown
from kzoo.tasks.answering import add_special_tokens, check_tokenizer, read_texts, run_rows, softmax
from kzoo.tasks.entities import merge, words_between_blanks, words_of
from kzoo.tasks.windows import cut, owners, question_windows


def answer(task, model, *inputs, **options):
    """The answer of `task`; inputs and options are those of its function in this file."""
    if task not in ANSWERS:
        raise ValueError(f"The task {task!r} has no answers to text here; it has: {', '.join(ANSWERS)}.")
    check_tokenizer(model)
    names = list(inspect.signature(ANSWERS[task]).parameters)[1:]
    for name in options:
        if name not in names:
            raise TypeError(unknown(f"option of {task!r}", name, names))
    return ANSWERS[task](model, *inputs, **options)


def classify(model, inputs, truncate=False, batch_size=32):
    """Text classification.

    Args:
        inputs: a text or a list of texts.
        truncate: True reads the beginning of a text that is too long for the model, instead of refusing it.
        batch_size: most texts at a time.

    Returns: {"label", "score", "scores": {label: score}} for each text; scores are probabilities.
    """
    texts, single = read_texts(inputs)
    rows = add_special_tokens(model, model.tokenizer.encode_batch(texts, add_special_tokens=False), truncate)
    answers = [label_scores(outputs["logits"], model.settings["labels"])
               for outputs in run_rows(model, rows, batch_size=batch_size)]
    return answers[0] if single else answers


def label_scores(logits, labels):
    """The answer of text classification, {"label", "score", "scores"}, from the logits (N,) of N labels."""
    scores = dict(zip(labels, softmax(logits).tolist(), strict=True))
    label = max(scores, key=scores.get)
    return {"label": label, "score": scores[label], "scores": scores}


def tag(model, inputs, overlap=None, batch_size=32, pretokenized=False):
    """Token classification, of texts of any length: long ones are read in overlapping windows.

    A word has the label of its first piece, as in training.

    Args:
        inputs: a text or a list of texts.
        overlap: tokens that a window shares with the one before, at least; None means a quarter of it.
        batch_size: most windows at a time.
        pretokenized: True takes for words what blanks part, as in files of tagged words, and answers with every word
            and its label as it is.

    Returns: for each text a list of {"label", "score", "text", "start", "end"}, with characters from `start` to before
        `end`: entities where the labels are of the schemes IOB, IOBES or BILOU (B-PER, I-PER, ...), else every word.
        The score of an entity is the mean of its words' probabilities.
    """
    texts, single = read_texts(inputs)
    before, after = model.tokenizer.template
    encodings = [model.tokenizer.encode_with_offsets(text) for text in texts]
    lengths = [len(encoding.ids) for encoding in encodings]
    room = max([1, *lengths])
    if model.max_sequence_length is not None:
        room = model.max_sequence_length - len(before) - len(after)
    windows = [cut(length, room, overlap) for length in lengths]
    rows = [[*before, *encoding.ids[start:stop], *after]
            for encoding, cuts in zip(encodings, windows, strict=True) for start, stop in cuts]
    outputs = iter(run_rows(model, rows, batch_size=batch_size))
    labels, answers = model.settings["labels"], []
    for text, encoding, cuts in zip(texts, encodings, windows, strict=True):
        logits = [next(outputs)["logits"][len(before):][:stop - start] for start, stop in cuts]
        words = words_between_blanks(text, encoding) if pretokenized else words_of(text, encoding)
        owner = owners(cuts, len(encoding.ids)) if cuts else ()
        tagged = []
        for word in words:
            window = owner[word.piece]
            scores = softmax(logits[window][word.piece - cuts[window][0]])
            tagged.append((labels[scores.argmax()], float(scores.max()), word.start, word.end))
        answers.append(merge(text, tagged, () if pretokenized else labels))
    return answers[0] if single else answers


def fill(model, inputs, top_k=5, truncate=False, batch_size=4):
    """Masked language modelling.

    Args:
        inputs: a text or a list of texts, in which the tokenizer's mask token stands for what is to be found.
        top_k: how many tokens to name for each mask.
        truncate: True reads the beginning of a text that is too long for the model, instead of refusing it.
        batch_size: most texts at a time; each takes a row of the vocabulary for each of its tokens.

    Returns: for each text a list, one entry a mask, of the `top_k` likeliest {"token", "score", "text"}: the token's
        text, its probability, and the whole text with it in the place of this mask.
    """
    texts, single = read_texts(inputs)
    tokenizer = model.tokenizer
    if tokenizer.mask_id is None:
        raise ValueError("The tokenizer has no mask token, so there is nothing to fill in.")
    if type(top_k) is not int or top_k < 1:
        raise ValueError(f"`top_k` must be at least 1. Received: {top_k!r}.")
    encodings = [tokenizer.encode_with_offsets(text, recognise_special_tokens=True) for text in texts]
    rows = add_special_tokens(model, [encoding.ids for encoding in encodings], truncate)
    for number, row in enumerate(rows):
        if tokenizer.mask_id not in row:
            raise ValueError(f"Text {number} holds no {tokenizer.roles['mask']} to fill in"
                             f"{' where the model reads it' if truncate else ''}. Received: {texts[number]!r:.200}.")
    answers, shift = [], len(tokenizer.template[0])
    for text, encoding, row, outputs in zip(texts, encodings, rows, run_rows(model, rows, batch_size=batch_size),
                                            strict=True):
        places = [place for place, index in enumerate(row) if index == tokenizer.mask_id]
        answers.append([_candidates(tokenizer, text, encoding.offsets[place - shift], outputs["logits"][place], top_k)
                        for place in places])
    return answers[0] if single else answers


def _candidates(tokenizer, text, offsets, logits, top_k):
    """The likeliest tokens for one mask; rows of the embedding beyond the vocabulary are no tokens."""
    scores = softmax(logits)
    best = np.argsort(-scores[:tokenizer.vocabulary_size], kind="stable")[:top_k]
    head, tail = text[:offsets[0]], text[offsets[1]:]
    found = []
    for index in best.tolist():
        token = tokenizer.decode([index], skip_special_tokens=False)
        if tokenizer.kind == "wordpiece" and token.startswith("##"):  # goes on with the word before
            whole = head.rstrip() + token[2:] + tail
        else:
            whole = head + (token.lstrip() if head[-1:].isspace() else token) + tail
        found.append({"token": token.strip(), "score": float(scores[index]), "text": whole})
    return found


def find_answer(model, inputs=None, question=None, context=None, max_answer_tokens=30, overlap=None, batch_size=32):
    """Extractive question answering; a long context is read in overlapping windows.

    The answer is the span whose logits of first and last token have the largest sum, over all windows. A span counts
    in the one window that shows its first token with most context around it. Spans over the question do not count.

    Args:
        inputs: {"question": text, "context": text}, or a list of such; or instead of it
        question, context: a text each.
        max_answer_tokens: longest answer.
        overlap: tokens of context that a window shares with the one before, at least; None means a quarter of it.
        batch_size: most windows at a time.

    Returns: {"answer", "score", "start", "end"} for each question: the context's characters from `start` to before
        `end`, and the probability of that span among all that count.
    """
    pairs, single = read_questions(inputs, question, context)
    if type(max_answer_tokens) is not int or max_answer_tokens < 1:
        raise ValueError(f"`max_answer_tokens` must be at least 1. Received: {max_answer_tokens!r}.")
    tokenizer, encodings, windows = model.tokenizer, [], []
    for number, (asked, text) in enumerate(pairs):
        encoding = tokenizer.encode_with_offsets(text)
        ids = tokenizer.encode(asked, add_special_tokens=False)
        try:
            found = question_windows(tokenizer, ids, encoding.ids, model.max_sequence_length, overlap)
        except ValueError as error:
            raise ValueError(f"Question {number}: {str(error).removesuffix('.')}.") from None
        if not found:
            raise ValueError(f"Question {number}: its context holds no text.")
        encodings.append(encoding)
        windows.append(found)
    every = [window for found in windows for window in found]
    outputs = iter(run_rows(model, [window.token_ids for window in every], [window.segment_ids for window in every],
                            batch_size))
    answers = []
    for (_, text), encoding, found in zip(pairs, encodings, windows, strict=True):
        first, last, score = best_span(found, [next(outputs) for _ in found], len(encoding.ids), max_answer_tokens)
        start, end = encoding.offsets[first][0], encoding.offsets[last][1]
        answers.append({"answer": text[start:end], "score": score, "start": start, "end": end})
    return answers[0] if single else answers


def best_span(windows, outputs, length, max_answer_tokens):
    """(first token, last token, probability) of the best span of a context.

    Args:
        windows: list of `QuestionWindow`.
        outputs: for each a dict with `start_logits` and `end_logits`, (T,).
        length: tokens of the context.
        max_answer_tokens: longest span.
    """
    owner = owners([(window.start, window.stop) for window in windows], length)
    best, total = (-np.inf, 0, 0), -np.inf
    for number, (window, row) in enumerate(zip(windows, outputs, strict=True)):
        part = slice(window.first, window.first + window.stop - window.start)
        starts = np.where(owner[window.start:window.stop] == number, row["start_logits"][part], -np.inf)
        ends = np.asarray(row["end_logits"][part], "float64")
        for more in range(min(max_answer_tokens, len(starts))):  # tokens after the first
            sums = starts[:len(starts) - more].astype("float64") + ends[more:]
            place = int(sums.argmax())
            if sums[place] > best[0]:
                best = sums[place], window.start + place, window.start + place + more
            total = np.logaddexp(total, np.logaddexp.reduce(sums))
    return best[1], best[2], float(np.exp(best[0] - total))


def read_questions(inputs, question=None, context=None):
    """((question, context) pairs, whether it was one on its own); arguments and errors are those of `find_answer`."""
    if inputs is None:
        inputs = {"question": question, "context": context}
    elif question is not None or context is not None:
        raise TypeError("Pass either a dict with `question` and `context`, or these two by name; not both.")
    single = isinstance(inputs, dict)
    rows = [inputs] if single else inputs
    if not isinstance(rows, (list, tuple)):
        raise TypeError(f"A question is a dict with `question` and `context`. Received: {inputs!r:.200}.")
    for row in rows:
        if not isinstance(row, dict) or set(row) != {"question", "context"} or not all(
                isinstance(text, str) for text in row.values()):
            raise TypeError(f"A question is a dict with the texts `question` and `context`. Received: {row!r:.200}.")
    return [(row["question"], row["context"]) for row in rows], single


def features(model, inputs, truncate=False, batch_size=32):
    """Feature extraction.

    Args:
        inputs: a text or a list of texts.
        truncate: True reads the beginning of a text that is too long for the model, instead of refusing it.
        batch_size: most texts at a time.

    Returns: float32 vector (E,) for each text.
    """
    texts, single = read_texts(inputs)
    rows = add_special_tokens(model, model.tokenizer.encode_batch(texts, add_special_tokens=False), truncate)
    answers = [outputs["features"].astype("float32") for outputs in run_rows(model, rows, batch_size=batch_size)]
    return answers[0] if single else answers


# Task -> its function.
ANSWERS = {
    "text-classification": classify,
    "token-classification": tag,
    "fill-mask": fill,
    "question-answering": find_answer,
    "feature-extraction": features,
}

"""From labels of tokens to words and named entities with their places in the text."""
import bisect
import re
from typing import NamedTuple

BEGIN, INSIDE = "BSU", "IEL"  # first letters of tags, in the schemes IOB, IOBES and BILOU


class Word(NamedTuple):
    """Characters from `start` to before `end`; `piece` is the number of its first token."""
    start: int
    end: int
    piece: int


def words_of(text, encoding):
    """The words of a text, as its tokens begin them.

    A word begins where the tokenizer begins one, and on both sides of a character that is no letter or digit.

    Args:
        encoding: what `Tokenizer.encode_with_offsets` made of `text`.
    """
    words, previous = [], None
    for piece, ((start, end), number) in enumerate(zip(encoding.offsets, encoding.words, strict=True)):
        if start == end:
            continue  # a space, or nothing
        joined = words and number is not None and number == previous and start <= words[-1].end and (
            start < words[-1].end or _is_inside(text, start))
        if joined:
            words[-1] = words[-1]._replace(end=max(end, words[-1].end))
        else:
            words.append(Word(start, end, piece))
        previous = number
    return words


def words_between_blanks(text, encoding):
    """The words of a text that blanks part; those that give no token are left out.

    Args:
        encoding: what `Tokenizer.encode_with_offsets` made of `text`.
    """
    pieces = [(start, piece) for piece, (start, end) in enumerate(encoding.offsets) if start < end]
    words = []
    for match in re.finditer(r"\S+", text):
        place = bisect.bisect_left(pieces, (match.start(), 0))
        if place < len(pieces) and pieces[place][0] < match.end():
            words.append(Word(match.start(), match.end(), pieces[place][1]))
    return words


def _is_inside(text, place):
    return re.fullmatch(r"\w\w", text[place - 1:place + 1]) is not None


def merge(text, tagged, labels):
    """Entities where the labels have a scheme, else every word.

    Args:
        text: the text.
        tagged: (label, score, start, end) of each word, in order.
        labels: all labels of the task.

    Returns: list of {"label", "score", "text", "start", "end"}.
    """
    if any(split_tag(label) for label in labels):
        tagged = _entities(tagged)
    return [{"label": label, "score": score, "text": text[start:end], "start": start, "end": end}
            for label, score, start, end in tagged]


def _entities(tagged):
    """Words of one entity as one: it begins at B, or at an I that nothing of its kind stands before."""
    groups, kind = [], None
    for label, score, start, end in tagged:
        letter, name = split_tag(label) or ("O", None)
        if letter in INSIDE and name == kind:
            groups[-1].append((score, start, end))
        elif name is not None:
            groups.append([name, (score, start, end)])
        kind = name
    return [(name, sum(score for score, _, _ in words) / len(words), words[0][1], words[-1][2])
            for name, *words in groups]


def split_tag(label):
    """(letter, name) of B-PER; None for a label outside of any scheme."""
    return (label[0], label[2:]) if label[1:2] == "-" and label[0] in BEGIN + INSIDE and label[2:] else None

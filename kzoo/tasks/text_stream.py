"""Token ids to text as they arrive, without ever taking a character back. Imports neither Keras nor TensorFlow."""
_UNFINISHED = "\ufffd"  # what a decoder writes for bytes that are no character, or not yet
_CONTEXT = 8  # tokens of the prompt that decide how the first new token is spelled


class TextStream:
    """The text that new tokens add to a prompt, piece by piece.

    A piece is given once it cannot change any more: not while it ends inside a UTF-8 character, and not while its end
    may be the beginning of a stop text. The pieces joined are the text before the first stop text.

    Args:
        tokenizer: a `kzoo.tokenizers.Tokenizer`.
        prompt_ids: the prompt; its last tokens tell whether the first word begins with a space.
        stop: texts that end the stream.
    """

    def __init__(self, tokenizer, prompt_ids, stop=()):
        self._tokenizer = tokenizer
        self._ids = _context(prompt_ids)
        self._known, self._read = 0, len(self._ids)  # ids[known:read] is given and spells the next piece
        self._base = _whole_characters(tokenizer, self._ids)
        self._stop = tuple(stop)
        self._held = ""  # decoded, but perhaps the beginning of a stop text
        self.stopped = False

    def push(self, token_id):
        """The text, perhaps empty, that is certain after one more token."""
        if self.stopped:
            return ""
        self._ids.append(int(token_id))
        piece = self._decode_new()
        if not piece or piece.endswith(_UNFINISHED):
            # A stop text may be complete although the text after it is not.
            complete = _find(self._held + (piece or ""), self._stop) is not None
            return self._release(piece) if complete else ""
        spelt = _decode(self._tokenizer, self._ids[self._read:])
        if spelt.strip():
            self._known, self._base = self._read, spelt
        else:  # SentencePiece drops a space at the beginning of a text, so the beginning must be something else
            self._base += piece
        self._read = len(self._ids)
        return self._release(piece)

    def finish(self):
        """What was held back, at the end of the tokens."""
        if self.stopped:
            return ""
        piece = self._decode_new() or ""
        text = self._held + piece
        self._held, self._read = "", len(self._ids)
        return text[:_find(text, self._stop, len(text))]

    def _decode_new(self):
        """The text beyond what is given; None while a tokenizer rewrites what came before (punctuation clean-up)."""
        text = _decode(self._tokenizer, self._ids[self._known:])
        return text[len(self._base):] if text.startswith(self._base) else None

    def _release(self, piece):
        text = self._held + piece
        end = _find(text, self._stop)
        if end is not None:
            self.stopped, self._held = True, ""
            return text[:end]
        keep = _overlap(text, self._stop)
        self._held = text[len(text) - keep:]
        return text[:len(text) - keep]


def continuation(tokenizer, prompt_ids, new_ids, stop=()):
    """The text that `new_ids` add to a prompt, up to the first stop text."""
    context = _context(prompt_ids)
    before = _whole_characters(tokenizer, context)
    text = _decode(tokenizer, [*context, *new_ids])
    text = text[len(before):] if text.startswith(before) else _decode(tokenizer, new_ids)
    return text[:_find(text, stop, len(text))]


def holds_stop(tokenizer, prompt_ids, new_ids, stop):
    """Whether a stop text is in the text that `new_ids` add."""
    return continuation(tokenizer, prompt_ids, new_ids, stop) != continuation(tokenizer, prompt_ids, new_ids)


def _context(prompt_ids):
    return [int(token_id) for token_id in prompt_ids[-_CONTEXT:]]


def _whole_characters(tokenizer, prompt_ids):
    """The text of a prompt; a character that it only begins counts as new once it is complete."""
    return _decode(tokenizer, prompt_ids).rstrip(_UNFINISHED)


def _decode(tokenizer, ids):
    # A model's vocabulary may be padded beyond the tokenizer's; what lies there has no text.
    ids = [int(token_id) for token_id in ids if token_id < tokenizer.vocabulary_size]
    return tokenizer.decode(ids, skip_special_tokens=True)


def _find(text, stop, otherwise=None):
    """Where the first stop text begins."""
    places = [place for place in (text.find(each) for each in stop) if place >= 0]
    return min(places, default=otherwise)


def _overlap(text, stop):
    """Length of the longest end of `text` that begins a stop text."""
    return max((size for each in stop for size in range(1, len(each)) if text.endswith(each[:size])), default=0)

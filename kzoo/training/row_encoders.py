"""How labelled texts, tagged words and pairs of texts become rows of tokens, and rows batches."""
import math

import numpy as np

from kzoo.tasks.entities import split_tag, words_of
from kzoo.training.row_data import RowEncoder


class TextEncoder(RowEncoder):
    """What encoders of whole texts share: special tokens around, and what happens to texts that are too long.

    Args:
        tokenizer: a `kzoo.tokenizers.Tokenizer`.
        options: `TrainOptions`.
        config: the model's.
        limit: most tokens of a row, or None.
        labels: names of the classes, in order, or None.
    """

    def __init__(self, tokenizer, options, config, limit, labels=None):
        self.tokenizer = tokenizer
        self.limit = limit
        self.limits = None if limit is None else (limit,)
        self.truncate = options.truncate
        self.numbers = {label: number for number, label in enumerate(labels or ())}
        self.pad_id = 0 if tokenizer.pad_id is None else tokenizer.pad_id
        self.cut = 0

    def identity(self):
        """Plain values on which the encoded rows depend."""
        return {"encoder": type(self).__name__, "tokenizer": self.tokenizer.fingerprint, "limit": self.limit,
                "truncate": self.truncate, "labels": list(self.numbers)}

    def surround(self, ids, before=(), after=(), what="text", axis=0):
        """(ids with their special tokens, cut to the limit of their axis if that was asked for; fault)."""
        if not ids:
            return None, f"the {what} gives no tokens"
        limit = self.limits and self.limits[axis]
        room = math.inf if limit is None else limit - len(before) - len(after)
        if len(ids) > room:
            if not self.truncate:
                field = "sequence_length" if limit == self.limit else "max_target_length"
                return None, (f"the {what} has {len(ids) + len(before) + len(after)} tokens and the model takes "
                              f"{limit}. Cut such texts with truncate='end' (--truncate), or raise `{field}`")
            self.cut += 1
            ids = ids[:room] if self.truncate == "end" else ids[-room:]
        return [*before, *ids, *after], ""

    def token_inputs(self, examples, rows, width):
        """The dict of inputs of a model that reads one text."""
        token_ids = examples["token_ids"]
        return {"token_ids": token_ids.padded(rows, width, self.pad_id),
                "padding_mask": np.arange(width) < token_ids.lengths[rows][:, None]}


class SequenceLabels(TextEncoder):
    """A text and its label."""

    single = ("label",)
    measures = ("accuracy",)
    metric = "accuracy"

    def encode(self, examples):
        rows = self.tokenizer.encode_batch([example.text for example in examples], add_special_tokens=False)
        for example, ids in zip(examples, rows, strict=True):
            ids, fault = self.surround(ids, *self.tokenizer.template)
            yield example, [] if fault else [{"token_ids": ids, "label": self.numbers[example.label]}], fault

    def collate(self, examples, rows, shape):
        return (self.token_inputs(examples, rows, *shape), np.asarray(examples["label"][rows]),
                np.ones(len(rows), "float32"))


class TokenLabels(TextEncoder):
    """Words and their tags; the first token of a word carries the tag, the others count for nothing.

    The words are joined with blanks, so that they are tokenised as in running text. Where `model("text")` would see
    several words in one of the data, as in "O'Neil", each begins with the tag, from the second on with that of an inner
    word: what is trained is what is asked for later. A sentence that is too long is cut between words into several
    rows.
    """

    ragged = ("token_ids", "tags")
    measures = ("accuracy",)
    metric = "accuracy"

    def encode(self, examples):
        before, after = self.tokenizer.template
        for example in examples:
            text = " ".join(example.words)
            encoding = self.tokenizer.encode_with_offsets(text)
            tags = self._tags(example, words_of(text, encoding), len(encoding.ids))
            if not any(tag >= 0 for tag in tags):
                yield example, [], "the words give no tokens"
                continue
            room = len(tags) if self.limit is None else self.limit - len(before) - len(after)
            yield example, [{"token_ids": [*before, *encoding.ids[start:stop], *after],
                             "tags": [*[-1] * len(before), *tags[start:stop], *[-1] * len(after)]}
                            for start, stop in _windows(tags, room)], ""

    def _tags(self, example, words, count):
        """The class of each of `count` tokens, -1 for those that do not begin a word."""
        starts = np.cumsum([0, *(len(word) + 1 for word in example.words[:-1])])  # the blanks between them
        tags, previous = [-1] * count, None
        for word in words:
            number = int(np.searchsorted(starts, word.start, side="right")) - 1
            tag = example.tags[number]
            inner = f"I-{tag[2:]}" if number == previous and split_tag(tag) else tag
            tags[word.piece] = self.numbers.get(inner, self.numbers[tag])
            previous = number
        return tags

    def collate(self, examples, rows, shape):
        tags = examples["tags"].padded(rows, *shape, fill=-1)
        return self.token_inputs(examples, rows, *shape), np.maximum(tags, 0), (tags >= 0).astype("float32")


class TextPairs(TextEncoder):
    """A source and its target, which the decoder reads shifted by one.

    The target ends with the model's end token. It begins with what the tokenizer puts before a text where the config
    says `target_begins_as_source`, as published models of the family were trained.
    """

    ragged = ("source", "target")

    def __init__(self, tokenizer, options, config, limit, labels=None):
        super().__init__(tokenizer, options, config, limit)
        self.pad_id, self.eos_id, self.start_id = config.pad_id, config.eos_id, config.decoder_start_id
        if limit is not None:
            self.limits = limit, min(limit, getattr(config, "max_target_length", limit))
        self.target_begin = tokenizer.template[0] if getattr(config, "target_begins_as_source", False) else ()

    def identity(self):
        return {**super().identity(), "eos_id": self.eos_id, "limits": self.limits and list(self.limits),
                "target_begin": list(self.target_begin)}

    def encode(self, examples):
        before, after = self.tokenizer.template
        if not after or after[-1] != self.eos_id:
            after = (*after, self.eos_id)
        sides = [tokenizer.encode_batch([getattr(example, side) for example in examples], add_special_tokens=False)
                 for side, tokenizer in (("source", self.tokenizer), ("target", self.tokenizer.targets))]
        for example, source, target in zip(examples, *sides, strict=True):
            source, fault = self.surround(source, before, after, "source")
            if not fault:
                target, fault = self.surround(target, self.target_begin, (self.eos_id,), "target", axis=1)
            yield example, [] if fault else [{"source": source, "target": target}], fault

    def lengths(self, examples):
        return np.stack([examples[name].lengths for name in self.ragged], axis=1)

    def collate(self, examples, rows, shape):
        source, target = (examples[name].padded(rows, width, self.pad_id)
                          for name, width in zip(self.ragged, shape, strict=True))
        masks = [np.arange(width) < examples[name].lengths[rows][:, None]
                 for name, width in zip(self.ragged, shape, strict=True)]
        shifted = np.concatenate([np.full((len(rows), 1), self.start_id, "int32"), target[:, :-1]], axis=1)
        return ({"encoder_token_ids": source, "encoder_padding_mask": masks[0], "decoder_token_ids": shifted,
                 "decoder_padding_mask": masks[1]}, target, masks[1].astype("float32"))

    def facts(self, results, rows, total):
        return {"loss": results["loss"], "perplexity": math.exp(min(results["loss"], 700)), "examples": rows,
                "target_tokens": round(total)}


def _windows(tags, room):
    """(start, stop) of pieces of at most `room` tokens that begin with a word where they can."""
    start = 0
    while len(tags) - start > room:
        stop = start + room
        while stop > start + 1 and tags[stop] < 0:
            stop -= 1
        stop = stop if tags[stop] >= 0 and stop > start else start + room  # a word longer than the model
        yield start, stop
        start = stop
    yield start, len(tags)

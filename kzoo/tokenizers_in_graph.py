"""The same ids inside a TensorFlow graph: strings in, ids out, by tensorflow-text.

| kind | made of | where it differs from `kzoo.tokenizers` |
|---|---|---|
| character | code points and a table | nowhere |
| wordpiece | BERT's normaliser as string operations, FastWordpiece | 684 of the 1.1 million code points |
| sentencepiece | the SentencePiece op, on the same model | ties: "......." as ". ......" or "...... ." |
| byte-bpe | TensorFlow has no such op: a ValueError | |

tensorflow-text's own FastBertTokenizer and BertTokenizer are not used: they write "weißen" as "weissen" (case folding,
where BERT lowers), keep U+FFFD, and do not know [CLS] in text. Before an export relies on the twin, `check_equal` says
for which of its texts the ids differ.

The WordPiece twin was compared on every code point (TensorFlow 2.21, tokenizers 0.23). The 684 that differ came into
Unicode after version 8 or changed their category since, and the two libraries carry tables of different age: marks,
punctuation and capitals of rare scripts, and signs such as U+2E55.

Saved models that hold a twin need `import tensorflow_text` before they are loaded (character ones do not).
"""
import json
import re

import numpy as np
import tensorflow as tf

from kzoo.wordpiece_characters import wordpiece_parts

KINDS = ("character", "wordpiece", "sentencepiece")


def in_graph_tokenizer(tokenizer, add_special_tokens=True):
    """The twin of a tokenizer.

    Args:
        tokenizer: a `kzoo.tokenizers.Tokenizer` of one of `KINDS`.
        add_special_tokens: as in `Tokenizer.encode`, fixed when the twin is made.

    Returns: a `tf.Module` that maps a string tensor (B,) of UTF-8 to a RaggedTensor (B, None) of int32. It can be saved
        with, or inside, another module. Malformed UTF-8 is read as U+FFFD.
    Raises: ValueError for a kind that TensorFlow has no operation for, or a tokenizer with parts of its own (another
        normaliser, added words). ImportError without tensorflow-text.
    """
    makers = {"character": _Characters, "wordpiece": _WordPiece, "sentencepiece": _SentencePiece}
    if tokenizer.kind not in makers:
        raise ValueError(f"A {tokenizer.kind} tokenizer cannot run inside a graph: no operation exists for "
                         f"it. The kinds that can: {', '.join(KINDS)}. Give the model ids instead of text.")
    return makers[tokenizer.kind](tokenizer, add_special_tokens)


def check_equal(tokenizer, texts, twin=None, add_special_tokens=True):
    """The texts for which a twin gives other ids than the tokenizer.

    Args:
        tokenizer: a `kzoo.tokenizers.Tokenizer`.
        texts: list of str.
        twin: what `in_graph_tokenizer` gave, or the same callable loaded from a saved model. None: it is made here.
        add_special_tokens: as the twin was made.

    Returns: list of str, empty if all ids are equal.
    """
    texts = list(texts)
    if not texts:
        return []
    twin = in_graph_tokenizer(tokenizer, add_special_tokens) if twin is None else twin
    expected = tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)
    # An array of objects: NumPy's own strings lose a NUL at their end.
    received = twin(tf.constant(np.array([text.encode("utf-8") for text in texts], object))).to_list()
    return [text for text, one, other in zip(texts, expected, received, strict=True) if one != other]


class _InGraph(tf.Module):
    """Base of the twins: the special tokens around the ids that `tokenize` gives."""

    def __init__(self, tokenizer, add_special_tokens):
        super().__init__()
        self._before, self._after = map(list, tokenizer.template) if add_special_tokens else ([], [])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="texts")])
    def __call__(self, texts):
        ids = self.tokenize(texts)  # (B, None)
        around = [tf.tile(tf.constant([part], tf.int32, shape=[1, len(part)]), [tf.shape(texts)[0], 1])
                  for part in (self._before, self._after)]
        return tf.concat([around[0], ids, around[1]], axis=1) if self._before or self._after else ids


class _Characters(_InGraph):

    def __init__(self, tokenizer, add_special_tokens):
        super().__init__(tokenizer, add_special_tokens)
        parts = json.loads(tokenizer.fast.to_str())
        if parts["normalizer"] or parts["pre_tokenizer"] or tokenizer.unk_id is None:
            raise ValueError("A character tokenizer inside a graph has no normaliser and has an unknown token, as "
                             "`train_tokenizer('character', ...)` makes it.")
        rows = [(ord(token), index) for token, index in tokenizer.vocabulary.items() if len(token) == 1]
        points, ids = zip(*rows, strict=True)
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(tf.constant(points, tf.int32), tf.constant(ids, tf.int32)),
            default_value=tokenizer.unk_id)

    def tokenize(self, texts):
        points = tf.strings.unicode_decode(texts, "UTF-8")  # (B, None) int32
        return points.with_flat_values(self.table.lookup(points.flat_values))


class _SentencePiece(_InGraph):

    def __init__(self, tokenizer, add_special_tokens):
        super().__init__(tokenizer, add_special_tokens)
        self.tokenizer = tensorflow_text().SentencepieceTokenizer(sentencepiece_model(tokenizer), out_type=tf.int32)

    def tokenize(self, texts):
        return self.tokenizer.tokenize(texts)


# Han characters that BERT surrounds with spaces (bert/tokenization.py, _is_chinese_char).
HAN = (r"\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}\x{2B740}-\x{2B81F}\x{2B920}-\x{2CEAF}"
       r"\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}")
SPACE = r"\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000}"
PUNCTUATION = r"!-/:-@\[-`{-~\pP"


class _WordPiece(_InGraph):

    def __init__(self, tokenizer, add_special_tokens):
        super().__init__(tokenizer, add_special_tokens)
        normalizer, model = wordpiece_parts(tokenizer)
        self._clean, self._han = normalizer["clean_text"], normalizer["handle_chinese_chars"]
        self._lower = normalizer["lowercase"]
        self._strip = self._lower if normalizer["strip_accents"] is None else normalizer["strip_accents"]
        specials = tokenizer.special_tokens if tokenizer.recognises_special_tokens else ()
        specials = sorted(specials, key=len, reverse=True)  # the longest first, as the library takes it
        self._specials = "|".join(map(re.escape, specials))
        self._longest, self._unknown = model["max_input_chars_per_word"], model["unk_token"]
        names = {index: token for token, index in tokenizer.vocabulary.items()}
        self._text = tensorflow_text()
        self.wordpiece = self._text.FastWordpieceTokenizer(
            [names.get(index, f"\x00unused {index}") for index in range(tokenizer.vocabulary_size)],
            suffix_indicator=model["continuing_subword_prefix"], max_bytes_per_word=4 * self._longest,
            token_out_type=tf.int32, unknown_token=self._unknown, no_pretokenization=True)

    def tokenize(self, texts):
        words = self.words(texts)  # (B, None) string
        flat = words.flat_values
        flat = tf.where(tf.strings.length(flat, unit="UTF8_CHAR") > self._longest, self._unknown, flat)
        return words.with_flat_values(self.wordpiece.tokenize(flat)).merge_dims(1, 2)

    def words(self, texts):
        """What BERT's normaliser and pre-tokenizer make of the texts: (B, None) string."""
        # regex_split and lower end at a NUL; U+0001 is cleaned away just as well.
        texts = tf.strings.regex_replace(texts, r"\x00", "\x01")
        if not self._specials:
            return self._split(self._normalize(texts))
        parts = self._text.regex_split(texts, f"({self._specials})", f"({self._specials})")  # (B, None)
        flat = parts.flat_values
        special = tf.strings.regex_full_match(flat, self._specials)
        named = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(flat, special), tf.cast(special, tf.int64))
        others = self._split(self._normalize(tf.where(special, "", flat)))
        return parts.with_flat_values(tf.concat([named, others], axis=1)).merge_dims(1, 2)  # one of the two is empty

    def _normalize(self, texts):
        # The order of BertNormalizer in the library: clean, Han characters, accents, lower case.
        replace = tf.strings.regex_replace
        if self._clean:
            texts = replace(texts, r"[\x{FFFD}\x{1}-\x{8}\x{B}\x{C}\x{E}-\x{1F}\x{7F}-\x{9F}\p{Cf}\p{Co}]", "")
            texts = replace(texts, f"[{SPACE}]", " ")
        if self._han:
            texts = replace(texts, f"([{HAN}])", r" \1 ")
        if self._strip:
            texts = replace(self._text.normalize_utf8(texts, "NFD"), r"\p{Mn}", "")
        if self._lower:
            # The library lowers one character at a time; TensorFlow would write a last sigma as ς.
            texts = tf.strings.lower(replace(texts, "Σ", "σ"), encoding="utf-8")
        return texts

    def _split(self, texts):
        return self._text.regex_split(texts, f"[{SPACE}]+|[{PUNCTUATION}]", f"[{PUNCTUATION}]")


def sentencepiece_model(tokenizer):
    """The bytes of the model that encodes, or a ValueError where that is not all there is to it."""
    if tokenizer.sentencepiece_model is None or tokenizer.recognises_special_tokens:
        raise ValueError("SentencePiece inside a graph needs the model file (tokenizer.model, spiece.model) and "
                         "reads special tokens in text as plain characters. This tokenizer was made from "
                         "tokenizer.json alone, or recognises special tokens.")
    return tokenizer.sentencepiece_model


def tensorflow_text():
    """The package, or an ImportError that says how to get it."""
    try:
        import tensorflow_text
    except ImportError as error:
        raise ImportError("Tokenizers inside a graph need tensorflow-text. Install kzoo[train].") from error
    return tensorflow_text

"""The same ids inside a TFLite file: strings in, ids out, by tensorflow-text's operators for TFLite.

| kind | made of | where it differs from `kzoo.tokenizers` |
|---|---|---|
| wordpiece | `kzoo.wordpiece_characters`, FastSentencepiece, FastWordpiece | marks out of their order |
| sentencepiece | FastSentencepiece, on the same unigram model | tabs and ends of lines are always spaces |
| character, byte-bpe | tensorflow-text has no such operator: a ValueError | |

tensorflow-text's FastBertNormalizer is not used; `kzoo.tokenizers_in_graph` says why. The operators are its own, not
TFLite's: an interpreter must be given `tensorflow_text.tflite_registrar.SELECT_TFTEXT_OPS`.
"""
import tensorflow as tf

from kzoo.sentencepiece_conversion import UNIGRAM, parse
from kzoo.wordpiece_characters import take_apart


def tflite_tokenizer(tokenizer):
    """The twin of a tokenizer.

    Args:
        tokenizer: a `kzoo.tokenizers.Tokenizer`.

    Returns: function of a string tensor (1,), one text, to its ids, int32 (N,), without special tokens around them.
        It runs in TensorFlow, and in TFLite once converted with `allow_custom_ops`.
    Raises: ValueError for a kind that TFLite has no operator for, or a tokenizer with parts of its own. ImportError
        without tensorflow-text.
    """
    makers = {"wordpiece": _wordpiece, "sentencepiece": _sentencepiece}
    if tokenizer.kind not in makers:
        raise ValueError(f"A {tokenizer.kind} tokenizer cannot run inside a TFLite file: no operator exists for it. "
                         f"The kinds that can: {', '.join(makers)}. Give the model ids instead of text.")
    return makers[tokenizer.kind](tokenizer)


def _sentencepiece(tokenizer):
    from kzoo.tokenizers_in_graph import sentencepiece_model, tensorflow_text

    model = sentencepiece_model(tokenizer)
    if parse(model).trainer_spec.model_type != UNIGRAM:
        raise ValueError("SentencePiece inside a TFLite file needs a unigram model; this one is of another type.")
    twin = tensorflow_text().FastSentencepieceTokenizer(model)
    return lambda texts: twin.tokenize(texts).flat_values


def _wordpiece(tokenizer):
    from kzoo.tokenizers_in_graph import tensorflow_text

    parts = take_apart(tokenizer)
    characters = tensorflow_text().FastSentencepieceTokenizer(parts.model)
    words = tensorflow_text().FastWordpieceTokenizer(
        parts.vocabulary, suffix_indicator=parts.suffix, max_bytes_per_word=3 * parts.longest,  # 3 a letter
        token_out_type=tf.int32, unknown_token=parts.unknown)

    def tokenize(texts):
        ids = characters.tokenize(texts)
        return words.tokenize(characters.detokenize(_without_nul(ids, parts.pieces))).flat_values

    return tokenize


def _without_nul(ids, pieces):
    """The ids of one text, (1, None), with U+0000 as what it becomes."""
    flat = ids.flat_values
    if pieces[0]:
        flat = tf.where(flat == 0, pieces.index(pieces[0], 1), flat)
    else:
        flat = tf.boolean_mask(flat, flat != 0)
    return tf.RaggedTensor.from_row_splits(flat, tf.stack([0, tf.size(flat)]), validate=False)

"""The same ids inside an ONNX graph: strings in, ids out, by the operators of onnxruntime-extensions.

| kind | made of | where it differs from `kzoo.tokenizers` |
|---|---|---|
| byte-bpe | HfJsonTokenizer, on the same tokenizer.json | U+0000 among punctuation, which parts it |
| wordpiece | `kzoo.wordpiece_characters`, SentencePiece, WordPiece | marks out of their order |
| sentencepiece | the SentencePiece operator, on the same model | nowhere |
| character | no such operator: a ValueError | |

The ready-made BertTokenizer is not used: it keeps Hangul syllables whole, which BERT takes apart, and does not know
[CLS] in text; GPT2Tokenizer takes a user's `<|endoftext|>` for the special token.

All these operators take U+0000 for the end of a text. So it is replaced before by a character that stands for it.
"""
import base64
import json

import numpy as np
import onnx_ir as ir

from kzoo.sentencepiece_conversion import USER_DEFINED, parse
from kzoo.wordpiece_characters import take_apart

DOMAIN = "ai.onnx.contrib"  # of onnxruntime-extensions
OPSETS = {"": 20, DOMAIN: 1, "ai.onnx.ml": 3}  # the oldest that have what is used here
NUL = "\U0010FFFE"  # stands for U+0000 where a tokenizer does not drop it; Unicode keeps it free of meaning for ever
END = "|"  # of a word of letters
KINDS = ("byte-bpe", "wordpiece", "sentencepiece")


def onnx_tokenizer(tokenizer):
    """The twin of a tokenizer.

    Args:
        tokenizer: a `kzoo.tokenizers.Tokenizer` of one of `KINDS`.

    Returns: function of (`Steps`, string value (B,)) that adds nodes, and returns values of int64: the ids of all texts
        (N,), without special tokens around them, and where each text's begin (B,) and how many they are (B,).
    Raises: ValueError for a kind that onnxruntime-extensions has no operator for, or a tokenizer with parts of its own.
    """
    makers = {"byte-bpe": _byte_bpe, "wordpiece": _wordpiece, "sentencepiece": _sentencepiece}
    if tokenizer.kind not in makers:
        raise ValueError(f"A {tokenizer.kind} tokenizer cannot run inside an ONNX graph: no operator exists for it. "
                         f"The kinds that can: {', '.join(KINDS)}. Give the model ids instead of text.")
    return makers[tokenizer.kind](tokenizer)


class Steps(ir.tape.Tape):
    """Nodes in the order they were made, and constants by their values."""

    def constant(self, array):
        """A constant; str are strings, int are int64."""
        kind = np.asarray(array).dtype.kind
        array = np.asarray(array, {"U": object, "i": "int64"}.get(kind))
        tensor = ir.StringTensor([text.encode("utf-8") for text in array.ravel()], shape=ir.Shape(array.shape)
                                 ) if array.dtype == object else ir.tensor(array)
        return self.initializer(tensor, f"text_constant_{len(self.initializers)}")

    def integers(self, value):
        return self.op("Cast", [value], {"to": ir.DataType.INT64})

    def range(self, length):
        """0, 1, ... as int64 (length,), from a value ()."""
        return self.op("Range", [self.constant(0), length, self.constant(1)])

    def column(self, vector):
        """(B,) as (B, 1)."""
        return self.op("Unsqueeze", [vector, self.constant([1])])

    def fill(self, flat, starts, lengths, width, filler):
        """Rows of different lengths as a rectangle.

        Args:
            flat: value (N,).
            starts, lengths: int64 values (B,), of each row in it.
            width: int64 value (), at least the largest length.
            filler: constant (1,) of the same type, for what follows the end of a row.

        Returns: value (B, width).
        """
        places = self.range(width)
        inside = self.op("Less", [places, self.column(lengths)])
        places = self.op("Where", [inside, self.op("Add", [self.column(starts), places]),
                                   self.op("Size", [flat])])
        return self.op("Gather", [self.op("Concat", [flat, filler], {"axis": 0}), places])

    def join(self, rows):
        """Strings (B, N) as (B,)."""
        return self.op("StringJoin", [rows, self.constant([""]), self.constant([1])], domain=DOMAIN)

    def largest(self, lengths, least=1):
        """The largest of int64 (B,), as (), or `least`."""
        return self.op("ReduceMax", [self.op("Concat", [lengths, self.constant([least])], {"axis": 0})],
                       {"keepdims": 0})

    def between(self, bounds):
        """(starts, lengths) of rows from where each begins, and the last ends, (B + 1,)."""
        one, end = self.constant([1]), self.constant([np.iinfo("int64").max])
        starts = self.op("Slice", [bounds, self.constant([0]), self.constant([-1])])
        return starts, self.op("Sub", [self.op("Slice", [bounds, one, end]), starts])


def _replace_nul(steps, texts, stand_in):
    """The texts with another text in the place of each U+0000."""
    pieces, counts = steps.op_multi_out("StringSplit", [texts], {"delimiter": "\0"}, num_outputs=2)  # (B, N), (B,)
    if stand_in:
        places = steps.range(steps.op("Squeeze", [steps.op("Shape", [pieces], {"start": 1}), steps.constant([0])]))
        followed = steps.op("Less", [places, steps.op("Sub", [steps.column(counts), steps.constant([1])])])
        ends = steps.op("Where", [followed, steps.constant([stand_in]), steps.constant([""])])
        pieces = steps.op("StringConcat", [pieces, ends])
    return steps.join(pieces)


def _byte_bpe(tokenizer):
    parts = json.loads(tokenizer.fast.to_str())
    parts["post_processor"] = None
    nul = {"id": parts["model"]["vocab"]["Ā"], "content": NUL, "single_word": False, "lstrip": False, "rstrip": False,
           "normalized": False, "special": False}  # the byte 0 is spelled Ā
    parts["added_tokens"].append(nul)
    attributes = {"tokenizer_config": json.dumps({"tokenizer_class": "PreTrainedTokenizer"}),
                  "tokenizer_vocab": json.dumps(parts)}

    def tokenize(steps, texts):
        ids, mask = steps.op_multi_out("HfJsonTokenizer", [_replace_nul(steps, texts, NUL)], attributes, num_outputs=2,
                                       domain=DOMAIN)  # (B, T)
        lengths = steps.op("ReduceSum", [mask, steps.constant([1])], {"keepdims": 0})
        width = steps.op("Squeeze", [steps.op("Shape", [ids], {"start": 1}), steps.constant([0])])
        rows = steps.range(steps.op("Size", [lengths]))
        return steps.op("Reshape", [ids, steps.constant([-1])]), steps.op("Mul", [rows, width]), lengths

    return tokenize


def _sentencepiece(tokenizer):
    if tokenizer.sentencepiece_model is None or tokenizer.recognises_special_tokens:
        raise ValueError("SentencePiece inside a graph needs the model file (tokenizer.model, spiece.model) and "
                         "reads special tokens in text as plain characters. This tokenizer was made from "
                         "tokenizer.json alone, or recognises special tokens.")
    model = parse(tokenizer.sentencepiece_model)
    extra, nul = len(model.pieces), tokenizer.vocabulary.get("<0x00>")
    if nul is not None:  # what stands for U+0000 would be spelled in bytes of its own
        model.pieces.add(piece=NUL, score=0.0, type=USER_DEFINED)

    def tokenize(steps, texts):
        texts = _replace_nul(steps, texts, NUL)
        ids, starts, lengths = _pieces(steps, texts, model.SerializeToString())
        ids = steps.integers(ids)
        if nul is not None:
            ids = steps.op("Where", [steps.op("Equal", [ids, steps.constant(extra)]), steps.constant(nul), ids])
        return ids, starts, lengths

    return tokenize


def _wordpiece(tokenizer):
    parts = take_apart(tokenizer)
    unknown, end = parts.vocabulary.index(parts.unknown), len(parts.vocabulary)
    ids = {token: index for index, token in enumerate([*parts.vocabulary, END])}
    attributes = {"vocab": json.dumps(ids), "suffix_indicator": parts.suffix, "unknown_token": parts.unknown,
                  "max_input_chars_per_word": parts.longest}

    def tokenize(steps, texts):
        texts = _replace_nul(steps, texts, NUL if parts.pieces[0] else "")
        pieces, starts, lengths = _pieces(steps, texts, parts.model)
        letters = steps.op("Gather", [steps.constant([f" {END} " if piece == " " else piece
                                                      for piece in parts.pieces]), pieces])
        words = steps.join(steps.fill(letters, starts, lengths, steps.largest(lengths), steps.constant([""])))  # (B,)
        words = steps.op("StringConcat", [words, steps.constant([f" {END}"])])
        tokens, bounds, _, _ = steps.op_multi_out(
            "WordpieceTokenizer", [words, steps.constant(np.zeros(0, "int64"))], attributes, num_outputs=4,
            domain=DOMAIN)
        flat = steps.op("LabelEncoder", [tokens], {
            "keys_strings": list(ids), "values_int64s": list(ids.values())}, domain="ai.onnx.ml")
        return _whole_words(steps, flat, bounds, unknown, end)

    return tokenize


def _whole_words(steps, ids, bounds, unknown, end):
    """Ids without those that end words, and without the pieces before an unknown rest of a word, which the operator
    leaves standing: (N,), starts, lengths."""
    number = steps.integers(steps.op("Equal", [ids, steps.constant(end)]))
    word = steps.op("CumSum", [number, steps.constant(0)], {"exclusive": 1})
    lacking = steps.op("Equal", [ids, steps.constant(unknown)])
    spoilt = steps.op("ScatterElements", [steps.op("Mul", [number, steps.constant(0)]), word, steps.integers(lacking)],
                      {"axis": 0, "reduction": "max"})
    kept = steps.op("Not", [steps.op("Cast", [steps.op("Add", [steps.op("Gather", [spoilt, word]), number])],
                                     {"to": ir.DataType.BOOL})])
    kept = steps.op("Or", [kept, lacking])
    before = steps.op("CumSum", [steps.op("Concat", [steps.constant([0]), steps.integers(kept)], {"axis": 0}),
                                 steps.constant(0)])  # how many are kept before each
    return steps.op("Compress", [ids, kept]), *steps.between(steps.op("Gather", [before, bounds]))


def _pieces(steps, texts, model):
    """(ids int32 (N,), starts, lengths) by a SentencePiece model."""
    no = steps.constant(np.zeros(1, "bool"))
    ids, bounds = steps.op_multi_out(
        "SentencepieceTokenizer", [texts, steps.constant([0]), steps.constant(np.zeros(1, "float32")), no, no, no],
        {"model": base64.b64encode(model).decode("ascii")}, num_outputs=2, domain=DOMAIN)
    return ids, *steps.between(bounds)

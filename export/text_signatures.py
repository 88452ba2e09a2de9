"""What files that take strings call their inputs and outputs: more rows of `kzoo.export.signature_tables`."""
import dataclasses

from kzoo.export.signature import Row, Signature

_TEXTS = Row("texts", "texts", ("batch_size",), "string")
_ONE = Row("texts", "texts", (1,), "string")


def _ids(ids, mask, dtype, mask_dtype, shape):
    """What a text became: its ids, which of them are no padding, and how many it has, with those that were cut off."""
    return (Row("token_ids", ids, shape, dtype), Row("padding_mask", mask, shape, mask_dtype),
            Row("num_tokens", "num_tokens", shape[:1], dtype))


_ROWS = ("batch_size", "sequence_length")
_SAVEDMODEL = _ids("token_ids", "padding_mask", "int32", "bool", _ROWS)
_ONNX = _ids("input_ids", "attention_mask", "int64", "int64", _ROWS)


def _tflite(length):
    return _ids("input_ids", "attention_mask", "int32", "int32", (1, length))


def answer_forms(outputs, static):
    """runtime -> signatures, of a task that answers one text.

    Args:
        outputs: its rows in `kzoo.export.signature_tables.ANSWERS`.
        static: function of rows to the same in a bucket of fixed length.
    """
    label = (Row("label", "label", ("batch_size",), "string"),) if "num_labels" in outputs[0].shape[1:2] else ()
    ours = tuple(dataclasses.replace(row, file_name=row.name) for row in outputs)
    return {
        "savedmodel-text": (Signature("answer", "serving_default", (_TEXTS,), (*label, *ours, *_SAVEDMODEL)),),
        "onnx-text": (Signature("answer", "answer", (_TEXTS,), (*label, *outputs, *_ONNX)),),
        "tflite-text": (Signature("answer_{length}", "answer_{length}", (_ONE,),
                                  (*static((*label, *outputs)), *_tflite("{length}"))),),
    }


# Runtime -> signatures, of a task whose model is run step by step: the file makes ids of a text.
TOKENIZE_FORMS = {
    "savedmodel-text": (Signature("tokenize", "serving_default", (_TEXTS,), _SAVEDMODEL),),
    "onnx-text": (Signature("tokenize", "tokenize", (_TEXTS,), _ONNX),),
    "tflite-text": (Signature("tokenize", "tokenize", (_ONE,), _tflite("static_length")),),
}

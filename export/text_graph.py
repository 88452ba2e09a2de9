"""From strings to a model's answer in TensorFlow: what a SavedModel or a TFLite file that takes text computes."""
import tensorflow as tf

from kzoo.export.signature_tables import FORWARD
from kzoo.export.signatures import sizes_of
from kzoo.export.text_forms import around
from kzoo.export.trace import run_signature


def text_endpoint(model, signature, tokenize):
    """A function of strings to the outputs of a signature by its file names.

    Args:
        model: a task model.
        signature: an expanded one of a runtime that takes text.
        tokenize: function of strings (B,) to (ids int32 (N,) of all texts, where each begins (B,), how many (B,)).
    """
    rows = {row.name: row for row in signature.outputs}
    width = rows["token_ids"].shape[1]
    static = width if isinstance(width, int) else None
    answers = rows.keys() - {"token_ids", "padding_mask", "num_tokens"}
    longest = static or (model.config.max_sequence_length if answers else None)
    before, after = around(model.task, model.tokenizer, getattr(model.config, "eos_id", None))
    pad = model.tokenizer.pad_id or 0

    def function(texts):
        token_ids, mask, counts = pack(*tokenize(texts), before, after, pad, longest, static)
        outputs = {"token_ids": token_ids, "padding_mask": mask, "num_tokens": counts}
        if answers:
            outputs.update(_answer(model, token_ids, mask))
        return {row.file_name: tf.cast(outputs[name], row.dtype) if row.dtype != "string" else outputs[name]
                for name, row in rows.items()}

    return function


def pack(ids, starts, lengths, before, after, pad, longest=None, width=None):
    """Rows of ids with special tokens around them as a rectangle.

    Args:
        ids: int32 (N,), of all texts.
        starts, lengths: int32 (B,), of each text in it.
        before, after: lists of ids around each text.
        pad: what follows.
        longest: most ids of a row; of a longer one the end of the text is cut.
        width: of the rectangle; None means that of the longest row, and at least 1.

    Returns: token_ids int32 (B, T), bool (B, T) with True for a real token, and int32 (B,), ids of the uncut rows.
    """
    extra, first = len(before) + len(after), len(before)
    kept = lengths if longest is None else tf.minimum(lengths, longest - extra)
    total = (kept + extra)[:, None]  # (B, 1)
    width = tf.maximum(tf.reduce_max(total), 1) if width is None else width
    places, size = tf.range(width)[None], tf.size(ids)  # (1, T)
    # Behind the ids stand `before`, `after` and the padding.
    behind = tf.where(places < first, size + places, size + places - kept[:, None])
    behind = tf.where(places < total, behind, size + extra)
    inside = tf.logical_and(places >= first, places < first + kept[:, None])
    values = tf.concat([ids, tf.constant([*before, *after, pad], tf.int32)], axis=0)
    token_ids = tf.gather(values, tf.where(inside, starts[:, None] + places - first, behind))  # (B, T)
    return token_ids, places < total, lengths + extra


def _answer(model, token_ids, mask):
    """The model's outputs by our names, and the name of the likeliest class where there are classes of texts."""
    inputs = {"token_ids": token_ids, "padding_mask": mask}
    if sizes_of(model)["num_segments"] > 1:
        inputs["segment_ids"] = tf.zeros_like(token_ids)
    outputs = run_signature(model, FORWARD[model.task], inputs)
    if model.task == "text-classification":
        best = tf.argmax(outputs["logits"], axis=-1, output_type=tf.int32)
        outputs["label"] = tf.gather(tf.constant(list(model.labels)), best)  # (B,) string
    return outputs

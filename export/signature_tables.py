"""What every artifact calls its inputs and outputs: rows, and the only place where the outside world's names stand.

A signature is named as kzoo names it ("forward", "prefill", "decode") and holds one row a tensor: our name, the name
in the file, shape and dtype. `{i}` in a row stands for the layer, `{length}` for a bucket of lengths. Shapes mix
numbers, sizes of the model (`vocabulary_size`), and symbols that a caller chooses (`batch_size`).
`kzoo.export.signatures` fills them in.
"""
import dataclasses

from kzoo.export.signature import Row, Signature
from kzoo.export.text_signatures import TOKENIZE_FORMS, answer_forms

# Of tensors with any batch size and length.
_PER_TOKEN = ("batch_size", "sequence_length")


def _texts(file_names, dtype, mask_dtype, shape=_PER_TOKEN):
    """The rows of texts as token ids; `file_names` are those of ids, mask, segments and global tokens."""
    ids, mask, segments, chosen = file_names
    return (Row("token_ids", ids, shape, dtype),
            Row("padding_mask", mask, shape, mask_dtype, optional=True),
            Row("segment_ids", segments, shape, dtype, optional=True, only_if="num_segments"),
            Row("global_mask", chosen, shape, mask_dtype, optional=True, only_if="max_global_tokens"))


_OURS = ("token_ids", "padding_mask", "segment_ids", "global_mask")
_HUGGING_FACE = ("input_ids", "attention_mask", "token_type_ids", "global_attention_mask")

# Task that answers a text at once -> its outputs.
ANSWERS = {
    "text-classification": (Row("logits", "logits", ("batch_size", "num_labels"), "float32"),),
    "token-classification": (Row("logits", "logits", (*_PER_TOKEN, "num_labels"), "float32"),),
    "fill-mask": (Row("logits", "logits", (*_PER_TOKEN, "vocabulary_size"), "float32"),),
    "question-answering": (Row("start_logits", "start_logits", _PER_TOKEN, "float32"),
                           Row("end_logits", "end_logits", _PER_TOKEN, "float32")),
    # Names of sentence-transformers' own exports: states of the tokens, and the vector made of them.
    "feature-extraction": (Row("hidden_states", "last_hidden_state", (*_PER_TOKEN, "hidden_dim"), "float32"),
                           Row("features", "sentence_embedding", ("batch_size", "hidden_dim"), "float32")),
}


def _named_by_us(rows):
    return tuple(dataclasses.replace(row, file_name=row.name) for row in rows)


# Of tasks that write one text for another.
REWRITING = ("translation", "summarization")

_SOURCE = ("batch_size", "source_length")


def _source(ids, mask, dtype, mask_dtype, shape=_SOURCE):
    return (Row("encoder_token_ids", ids, shape, dtype),
            Row("encoder_padding_mask", mask, shape, mask_dtype, optional=True))


_PAIR = Signature("forward", "forward", (
    *_source("encoder_token_ids", "encoder_padding_mask", "int32", "bool"),
    Row("decoder_token_ids", "decoder_token_ids", _PER_TOKEN, "int32"),
), (Row("logits", "logits", (*_PER_TOKEN, "vocabulary_size"), "float32"),))

# What each task offers in every runtime: the names and types of `Session.run("forward", ...)`.
FORWARD = {
    "text-generation": Signature("forward", "forward", _texts(_OURS, "int32", "bool")[:2],
                                 (Row("logits", "logits", (*_PER_TOKEN, "vocabulary_size"), "float32"),)),
    **{task: Signature("forward", "forward", _texts(_OURS, "int32", "bool"), _named_by_us(outputs))
       for task, outputs in ANSWERS.items()},
    **dict.fromkeys(REWRITING, _PAIR),
}


def _cache(keys, values, shape, kind="cache"):
    """The two rows of a layer's cache, or of its "context", by what the file calls them."""
    return (Row(f"{kind}_keys_{{i}}", keys, shape, "float32"), Row(f"{kind}_values_{{i}}", values, shape, "float32"))


def _heads_first(length):
    return ("batch_size", "num_key_value_heads", length, "head_dim")


def _heads_last(length):
    return ("batch_size", length, "num_key_value_heads", "head_dim")


def _onnx_tokens(total_length):
    return (Row("token_ids", "input_ids", _PER_TOKEN, "int64"),
            Row("padding_mask", "attention_mask", ("batch_size", total_length), "int64", optional=True),
            Row("positions", "position_ids", _PER_TOKEN, "int64", optional=True))


def _tflite_mask(length):
    """0 where a token may see a slot. LiteRT-LM sizes its cache by it; the graph has the rule and does not read it."""
    return Row("attention_mask", "mask", (1, 1, length, "static_length"), "float32", optional=True)


_STATIC = (1, "static_length", "num_key_value_heads", "head_dim")


def _static(rows):
    """The rows of one text in a bucket."""
    sizes = {"batch_size": 1, "sequence_length": "{length}"}
    return tuple(dataclasses.replace(row, shape=tuple(sizes.get(size, size) for size in row.shape)) for row in rows)


def _answers(task):
    """The artifacts of a task that answers at once."""
    outputs = ANSWERS[task]
    return {
        "onnx": (Signature("forward", "model", _texts(_HUGGING_FACE, "int64", "int64"), outputs),),
        "tflite": (Signature("forward_{length}", "forward_{length}",
                             _static(_texts(_HUGGING_FACE, "int32", "int32")), _static(outputs)),),
        "savedmodel": (dataclasses.replace(FORWARD[task], file_name="serving_default"),),
        "keras": (FORWARD[task],),
        **(answer_forms(outputs, _static) if task != "question-answering" else {}),  # which reads two texts
    }


def _onnx_caches(name, length, encoder=True):
    rows = _cache(f"{name}.{{i}}.decoder.key", f"{name}.{{i}}.decoder.value", _heads_first(length))
    if encoder:
        rows += _cache(f"{name}.{{i}}.encoder.key", f"{name}.{{i}}.encoder.value", _heads_first("source_length"),
                       "context")
    return rows


_LOGITS = _PAIR.outputs
_MASK = dataclasses.replace(_PAIR.inputs[1], optional=False)
_HIDDEN = Row("encoder_hidden_states", "encoder_hidden_states", (*_SOURCE, "hidden_dim"), "float32")
_OURS_GROWING = _cache("cache_keys_{i}", "cache_values_{i}", _heads_last("past_sequence_length"))
_OURS_GROWN = _cache("cache_keys_{i}", "cache_values_{i}", _heads_last("total_sequence_length"))
_CONTEXT = _cache("context_keys_{i}", "context_values_{i}", _heads_last("source_length"), "context")
_STATIC_CONTEXT = _cache("context_k_{i}", "context_v_{i}", (1, "static_length", "num_key_value_heads", "head_dim"),
                         "context")
_STATIC_CACHE = _cache("kv_cache_k_{i}", "kv_cache_v_{i}", (1, "static_length", "num_key_value_heads", "head_dim"))

# Translation and summarization: the source is read once, then each step has its keys and values.
_REWRITING = {
    "onnx": (
        Signature("encode", "encoder_model", _source("input_ids", "attention_mask", "int64", "int64"), (
            dataclasses.replace(_HIDDEN, file_name="last_hidden_state"),)),
        Signature("prefill", "decoder_model", (
            Row("encoder_padding_mask", "encoder_attention_mask", _SOURCE, "int64"),
            Row("decoder_token_ids", "input_ids", _PER_TOKEN, "int64"), _HIDDEN,
        ), (*_LOGITS, *_onnx_caches("present", "sequence_length"))),
        Signature("decode", "decoder_with_past_model", (
            Row("encoder_padding_mask", "encoder_attention_mask", _SOURCE, "int64"),
            Row("decoder_token_ids", "input_ids", _PER_TOKEN, "int64"),
            *_onnx_caches("past_key_values", "past_sequence_length"),
        ), (*_LOGITS, *_onnx_caches("present", "total_sequence_length", encoder=False))),
    ),
    "tflite": (
        Signature("encode_{length}", "encode_{length}",
                  _source("input_ids", "attention_mask", "int32", "int32", (1, "{length}")), _STATIC_CONTEXT),
        Signature("decode", "decode", (
            Row("encoder_padding_mask", "encoder_attention_mask", (1, "static_length"), "int32"),
            Row("decoder_token_ids", "tokens", (1, 1), "int32"),
            Row("positions", "input_pos", (1,), "int32"), *_STATIC_CACHE, *_STATIC_CONTEXT,
        ), (Row("logits", "logits", (1, 1, "vocabulary_size"), "float32"), *_STATIC_CACHE)),
    ),
    "savedmodel": (
        dataclasses.replace(_PAIR, file_name="serving_default"),
        Signature("encode", "encode", _PAIR.inputs[:2], (_HIDDEN,)),
        Signature("prefill", "prefill", (_MASK, _PAIR.inputs[2], _HIDDEN), (
            *_LOGITS, *_cache("cache_keys_{i}", "cache_values_{i}", _heads_last("sequence_length")), *_CONTEXT)),
        Signature("decode", "decode", (_MASK, _PAIR.inputs[2], *_OURS_GROWING, *_CONTEXT),
                  (*_LOGITS, *_OURS_GROWN)),
    ),
    "keras": (_PAIR,),
    **TOKENIZE_FORMS,
}

# ONNX: one more graph that does the work of these two, chosen by a flag; `merged_signature` adds their rows.
MERGES = ("prefill", "decode")
MERGED = Signature("merged", "decoder_model_merged", (Row("use_cache", "use_cache_branch", (1,), "bool"),), ())

# Task -> runtime -> signatures.
TABLES = {
    "text-generation": {
        # One graph: without a past it reads a prompt, with one it continues.
        "onnx": (
            Signature("prefill", "model", _onnx_tokens("sequence_length"), (
                Row("logits", "logits", (*_PER_TOKEN, "vocabulary_size"), "float32"),
                *_cache("present.{i}.key", "present.{i}.value", _heads_first("sequence_length")),
            ), derived=True),
            Signature("decode", "model", (
                *_onnx_tokens("total_sequence_length"),
                *_cache("past_key_values.{i}.key", "past_key_values.{i}.value", _heads_first("past_sequence_length")),
            ), (
                Row("logits", "logits", (*_PER_TOKEN, "vocabulary_size"), "float32"),
                *_cache("present.{i}.key", "present.{i}.value", _heads_first("total_sequence_length")),
            )),
        ),
        "tflite": (
            Signature("decode", "decode", (
                Row("token_ids", "tokens", (1, 1), "int32"),
                Row("positions", "input_pos", (1,), "int32"),
                _tflite_mask(1),
                *_cache("kv_cache_k_{i}", "kv_cache_v_{i}", _STATIC),
            ), (
                Row("logits", "logits", (1, 1, "vocabulary_size"), "float32"),
                *_cache("kv_cache_k_{i}", "kv_cache_v_{i}", _STATIC),
            )),
            Signature("prefill_{length}", "prefill_{length}", (
                Row("token_ids", "tokens", (1, "{length}"), "int32"),
                Row("positions", "input_pos", ("{length}",), "int32"),
                _tflite_mask("{length}"),
                *_cache("kv_cache_k_{i}", "kv_cache_v_{i}", _STATIC),
            ), (
                *_cache("kv_cache_k_{i}", "kv_cache_v_{i}", _STATIC),
            )),
        ),
        "savedmodel": (
            dataclasses.replace(FORWARD["text-generation"], file_name="serving_default"),
            Signature("prefill", "prefill", FORWARD["text-generation"].inputs, (
                *FORWARD["text-generation"].outputs,
                *_cache("cache_keys_{i}", "cache_values_{i}", _heads_last("sequence_length")),
            )),
            Signature("decode", "decode", (
                Row("token_ids", "token_ids", _PER_TOKEN, "int32"),
                Row("padding_mask", "padding_mask", ("batch_size", "total_sequence_length"), "bool"),
                *_OURS_GROWING,
            ), (*FORWARD["text-generation"].outputs, *_OURS_GROWN)),
        ),
        "keras": (FORWARD["text-generation"],),
        **TOKENIZE_FORMS,
    },
    **{task: _answers(task) for task in ANSWERS},
    **dict.fromkeys(REWRITING, _REWRITING),
}


def _memory(prefix, mask_dtype, batch_size="batch_size"):
    """The rows of a memory, by what the file calls them."""
    return (Row("memory_{i}", f"{prefix}memory_{{i}}", (batch_size, "memory_length", "hidden_dim"), "float32"),
            Row("memory_padding_mask", f"{prefix}memory_mask", (batch_size, "memory_length"), mask_dtype))


def _segment(name, length):
    """TFLite's signature that reads so many tokens."""
    memory = _memory("", "int32", 1)
    return Signature(name, name, (Row("token_ids", "tokens", (1, length), "int32"),
                                  Row("padding_mask", "mask", (1, length), "int32"), *memory),
                     (Row("logits", "logits", (1, length, "vocabulary_size"), "float32"), *memory))


# Of text-generation by a model with a memory in the place of keys and values: each call reads a segment after it.
RECURRENT = "recurrent text-generation"
RECURRENT_TABLE = {
    "onnx": (Signature("decode", "model", (
        Row("token_ids", "input_ids", _PER_TOKEN, "int64"), Row("padding_mask", "attention_mask", _PER_TOKEN, "int64"),
        *_memory("past_", "int64"),
    ), (*FORWARD["text-generation"].outputs, *_memory("present_", "int64"))),),
    "tflite": (_segment("decode", 1), _segment("prefill", "static_length")),
    "savedmodel": (
        dataclasses.replace(FORWARD["text-generation"], file_name="serving_default"),
        Signature("decode", "decode", (Row("token_ids", "token_ids", _PER_TOKEN, "int32"),
                                       Row("padding_mask", "padding_mask", _PER_TOKEN, "bool"), *_memory("", "bool")),
                  (*FORWARD["text-generation"].outputs, *_memory("", "bool"))),
    ),
    "keras": (FORWARD["text-generation"],),
    **TOKENIZE_FORMS,
}

_CACHED = ("num_layers", "num_key_value_heads", "head_dim", "vocabulary_size", "max_sequence_length", "static_length")
_TEXTS = ("vocabulary_size", "max_sequence_length", "num_segments", "max_global_tokens")

# Task -> the whole numbers, each at least 1, that a manifest records for its signatures.
SIZES = {
    "text-generation": _CACHED,
    "text-classification": (*_TEXTS, "num_labels"),
    "token-classification": (*_TEXTS, "num_labels"),
    "fill-mask": _TEXTS,
    "question-answering": _TEXTS,
    "feature-extraction": (*_TEXTS, "hidden_dim"),
    # Longest source and target; 0 stands for no limit. `static_length` is that of files with fixed shapes.
    **dict.fromkeys(REWRITING, (*_CACHED, "max_target_length", "hidden_dim", "source_vocabulary_size")),
}
RECURRENT_SIZES = ("num_layers", "memory_length", "hidden_dim", "vocabulary_size", "max_sequence_length",
                   "static_length")
NO_LIMIT = (*REWRITING, RECURRENT)  # whose `max_sequence_length` may be 0


def kind_of(task, sizes):
    """A task, or `RECURRENT`: what decides on signatures, sizes and sessions."""
    return RECURRENT if task == "text-generation" and "memory_length" in sizes else task


def table_of(task, sizes):
    """runtime -> signatures, not expanded."""
    return RECURRENT_TABLE if kind_of(task, sizes) == RECURRENT else TABLES[task]


def size_names(task, sizes):
    """What `sizes` must hold, and no more."""
    return RECURRENT_SIZES if kind_of(task, sizes) == RECURRENT else SIZES[task]

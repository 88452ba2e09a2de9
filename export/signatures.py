"""What every artifact calls its inputs and outputs: rows, and the only place where the outside world's names stand.

A signature is named as kzoo names it ("forward", "prefill", "decode") and holds one row a tensor: our name, the name
in the file, shape and dtype. `{i}` in a row stands for the layer, `{length}` for a prompt bucket. Shapes mix numbers,
sizes of the model (`vocabulary_size`), and symbols that a caller chooses (`batch_size`).
"""
import dataclasses

from kzoo.errors import unknown

# Prompt buckets of runtimes with fixed shapes, as far as the context reaches. They are few because an interpreter
# prepares the weights anew for every signature: each one costs about the memory of the whole model.
PREFILL_LENGTHS = (8, 32, 128, 1024)

# Sizes a manifest records for its signatures, each a whole number.
SIZES = ("num_layers", "num_key_value_heads", "head_dim", "vocabulary_size", "max_sequence_length")


@dataclasses.dataclass(frozen=True)
class Row:
    """One tensor.

    Attributes:
        name: ours.
        file_name: the artifact's.
        shape: numbers, names of sizes, or symbols.
        dtype: a numpy name.
        optional: the caller may leave it out.
    """
    name: str
    file_name: str
    shape: tuple
    dtype: str
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class Signature:
    """One callable of an artifact.

    Attributes:
        name: ours.
        file_name: the artifact's name for it.
        inputs, outputs: tuples of `Row`.
        derived: the session makes it out of another one; the file itself has none of its own.
    """
    name: str
    file_name: str
    inputs: tuple
    outputs: tuple
    derived: bool = False

    def to_dict(self):
        """Plain values for the manifest."""
        def plain(rows):
            return [{"name": row.name, "file_name": row.file_name, "shape": list(row.shape), "dtype": row.dtype}
                    for row in rows]
        return {"file_name": self.file_name, "inputs": plain(self.inputs), "outputs": plain(self.outputs)}


# What each task offers in every runtime: the names and types of `Session.run("forward", ...)`.
FORWARD = {
    "text-generation": Signature("forward", "forward", (
        Row("token_ids", "token_ids", ("batch_size", "sequence_length"), "int32"),
        Row("padding_mask", "padding_mask", ("batch_size", "sequence_length"), "bool", optional=True),
    ), (
        Row("logits", "logits", ("batch_size", "sequence_length", "vocabulary_size"), "float32"),
    )),
}


def _cache(keys, values, shape):
    """The two rows of a layer's cache, by what the file calls them."""
    return (Row("cache_keys_{i}", keys, shape, "float32"), Row("cache_values_{i}", values, shape, "float32"))


def _heads_first(length):
    return ("batch_size", "num_key_value_heads", length, "head_dim")


def _heads_last(length):
    return ("batch_size", length, "num_key_value_heads", "head_dim")


def _onnx_tokens(total_length):
    return (Row("token_ids", "input_ids", ("batch_size", "sequence_length"), "int64"),
            Row("padding_mask", "attention_mask", ("batch_size", total_length), "int64", optional=True),
            Row("positions", "position_ids", ("batch_size", "sequence_length"), "int64", optional=True))


def _tflite_mask(length):
    """0 where a token may see a slot. LiteRT-LM sizes its cache by it; the graph has the rule and does not read it."""
    return Row("attention_mask", "mask", (1, 1, length, "max_sequence_length"), "float32", optional=True)


_STATIC = (1, "max_sequence_length", "num_key_value_heads", "head_dim")

# Task -> runtime -> signatures. Layers and buckets are filled in by `signatures`.
TABLES = {
    "text-generation": {
        # One graph: without a past it reads a prompt, with one it continues.
        "onnx": (
            Signature("prefill", "model", _onnx_tokens("sequence_length"), (
                Row("logits", "logits", ("batch_size", "sequence_length", "vocabulary_size"), "float32"),
                *_cache("present.{i}.key", "present.{i}.value", _heads_first("sequence_length")),
            ), derived=True),
            Signature("decode", "model", (
                *_onnx_tokens("total_sequence_length"),
                *_cache("past_key_values.{i}.key", "past_key_values.{i}.value", _heads_first("past_sequence_length")),
            ), (
                Row("logits", "logits", ("batch_size", "sequence_length", "vocabulary_size"), "float32"),
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
            Signature("forward", "serving_default", FORWARD["text-generation"].inputs,
                      FORWARD["text-generation"].outputs),
            Signature("prefill", "prefill", FORWARD["text-generation"].inputs, (
                *FORWARD["text-generation"].outputs,
                *_cache("cache_keys_{i}", "cache_values_{i}", _heads_last("sequence_length")),
            )),
            Signature("decode", "decode", (
                Row("token_ids", "token_ids", ("batch_size", "sequence_length"), "int32"),
                Row("padding_mask", "padding_mask", ("batch_size", "total_sequence_length"), "bool"),
                *_cache("cache_keys_{i}", "cache_values_{i}", _heads_last("past_sequence_length")),
            ), (
                *FORWARD["text-generation"].outputs,
                *_cache("cache_keys_{i}", "cache_values_{i}", _heads_last("total_sequence_length")),
            )),
        ),
        "keras": (FORWARD["text-generation"],),
    },
}


def signatures(task, runtime, sizes):
    """name -> Signature of one artifact, with layers, buckets and sizes filled in.

    Args:
        task: for example "text-generation".
        runtime: "keras", "savedmodel", "onnx" or "tflite".
        sizes: dict with the whole numbers of `SIZES`.
    """
    if task not in TABLES:
        raise ValueError(unknown("task", task, TABLES))
    if runtime not in TABLES[task]:
        raise ValueError(unknown("runtime", runtime, TABLES[task]))
    result = {}
    for signature in TABLES[task][runtime]:
        lengths = prefill_lengths(sizes["max_sequence_length"]) if "{length}" in signature.name else (None,)
        for length in lengths:
            name = signature.name.format(length=length)
            result[name] = dataclasses.replace(
                signature, name=name, file_name=signature.file_name.format(length=length),
                inputs=_expand(signature.inputs, sizes, length), outputs=_expand(signature.outputs, sizes, length))
    return result


def forward_signature(task, sizes):
    """The task's `forward`, the same in every runtime, with sizes filled in."""
    if task not in FORWARD:
        raise ValueError(unknown("task", task, FORWARD))
    form = FORWARD[task]
    return dataclasses.replace(form, inputs=_expand(form.inputs, sizes), outputs=_expand(form.outputs, sizes))


def prefill_lengths(max_sequence_length):
    """Lengths of the prompt buckets for a context, shortest first; at least one."""
    return tuple(length for length in PREFILL_LENGTHS if length <= max_sequence_length) or (max_sequence_length,)


def sizes_of(config):
    """The numbers of `SIZES` from a family's config."""
    heads, width = config.key_value_shape()
    return {"num_layers": config.num_layers, "num_key_value_heads": heads, "head_dim": width,
            "vocabulary_size": config.vocabulary_size, "max_sequence_length": config.max_sequence_length}


def _expand(rows, sizes, length=None):
    result = []
    for row in rows:
        layers = range(sizes["num_layers"]) if "{i}" in row.name else (None,)
        shape = tuple(length if size == "{length}" else sizes.get(size, size) for size in row.shape)
        result += [dataclasses.replace(row, name=row.name.format(i=i), file_name=row.file_name.format(i=i), shape=shape)
                   for i in layers]
    # Layer by layer: keys, then values, as runtimes list them.
    return tuple(sorted(result, key=lambda row: _layer(row.name)))


def _layer(name):
    number = name.rsplit("_", 1)[-1]
    return int(number) if name.startswith("cache_") and number.isdigit() else -1

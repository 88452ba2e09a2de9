"""The signatures of one model's artifacts: the tables, with layers, buckets and sizes filled in."""
import dataclasses

from kzoo.errors import unknown
from kzoo.export.signature_tables import FORWARD, MERGED, MERGES, REWRITING, SIZES, TABLES, size_names, table_of

# Buckets of runtimes with fixed shapes, as far as the context reaches. They are few because an interpreter prepares
# the weights anew for every signature: each one costs about the memory of the whole model.
PREFILL_LENGTHS = (8, 32, 128, 1024)
FORWARD_LENGTHS = (32, 128, 512, 2048)  # and the context itself, so that every text has one
STATIC_LENGTH = 512  # of sources and targets in files with fixed shapes, where the model has no limit
MAX_STATIC_LENGTH = 2**20


def signatures(task, runtime, sizes):
    """name -> Signature of one artifact, with layers, buckets and sizes filled in.

    Args:
        task: for example "text-generation".
        runtime: "keras", "savedmodel", "onnx" or "tflite".
        sizes: dict with the whole numbers of `SIZES` for the task.
    """
    if task not in TABLES:
        raise ValueError(unknown("task", task, TABLES))
    table = table_of(task, sizes)
    if runtime not in table:
        raise ValueError(unknown("runtime", runtime, table))
    result = {}
    for signature in table[runtime]:
        lengths = (None,)
        if "{length}" in signature.name:
            buckets = prefill_lengths if signature.name.startswith("prefill") else forward_lengths
            lengths = buckets(sizes.get("static_length", sizes["max_sequence_length"]))
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


def merged_signature(forms):
    """Of the ONNX graph that does the work of "prefill" and "decode", and that sessions of other programs ask for.

    Its flag says which: with False it begins, and whatever stands in the caches is not read.

    Args:
        forms: name -> Signature, with these two, of an encoder-decoder.
    """
    prefill, decode = (forms[name] for name in MERGES)
    known = {row.file_name for row in prefill.inputs}
    # Programs fill unread caches with zeros of a width that they guess, so the file must not insist on one.
    caches = tuple(dataclasses.replace(
        row, shape=(*row.shape[:2], f"past_{row.shape[2].removeprefix('past_')}", "width"))
        for row in decode.inputs if row.file_name not in known)
    grown = {row.name: row for row in decode.outputs}
    return dataclasses.replace(MERGED, inputs=(*prefill.inputs, *caches, *MERGED.inputs),
                               outputs=tuple(grown.get(row.name, row) for row in prefill.outputs))


def prefill_lengths(max_sequence_length):
    """Lengths of the prompt buckets for a context, shortest first; at least one."""
    return tuple(length for length in PREFILL_LENGTHS if length <= max_sequence_length) or (max_sequence_length,)


def forward_lengths(max_sequence_length):
    """Lengths of the text buckets, shortest first; the last is the whole context."""
    return (*(length for length in FORWARD_LENGTHS if length < max_sequence_length), max_sequence_length)


def sizes_of(model, static_length=None):
    """The numbers of `SIZES` for a task model.

    Args:
        model: a task model.
        static_length: of files with fixed shapes, in tokens; None means all that the model has, or 512 without a limit.
    """
    config, backbone = model.config, model.backbone
    found = {"vocabulary_size": getattr(backbone, "target_vocabulary_size", config.vocabulary_size),
             "source_vocabulary_size": getattr(backbone, "source_vocabulary_size", None),
             "max_sequence_length": config.max_sequence_length or 0,
             "static_length": static_length or config.max_sequence_length or STATIC_LENGTH,
             "hidden_dim": config.hidden_dim,
             "max_target_length": getattr(backbone, "max_target_length", None) or 0,
             "max_global_tokens": getattr(config, "max_global_tokens", 1),
             "num_segments": max(getattr(config, "num_segments", 1), 1),
             "num_labels": len(getattr(model, "labels", ())),
             "num_layers": backbone.num_cached_layers()}
    if backbone.recurrent:  # texts have no limit; what has is the segment
        found.update(memory_length=config.memory_length, max_sequence_length=0)
    if hasattr(config, "key_value_shape"):
        found["num_key_value_heads"], found["head_dim"] = config.key_value_shape()
    return {name: found[name] for name in size_names(model.task, found)}


def check_static_length(model, static_length):
    """Refuse a length that files with fixed shapes cannot have; None is none."""
    if static_length is None:
        return
    if "static_length" not in SIZES[model.task]:
        raise ValueError(f"`static_length` (--static-length) means nothing to a model of the task {model.task!r}: its "
                         "files with fixed shapes have a signature for each of several lengths. Leave it out.")
    longest = model.config.max_sequence_length or MAX_STATIC_LENGTH
    if type(static_length) is not int or not 2 <= static_length <= longest:
        raise ValueError(f"`static_length` (--static-length) must be a whole number from 2 to {longest}, the most that "
                         f"the model reads. Received: {static_length!r}.")


def settings_of(model):
    """What a manifest records of the task besides sizes: its labels and the like, and how generation begins."""
    settings = model.settings()
    if hasattr(model.config, "sep_id"):
        settings = {**settings, "sep_id": model.config.sep_id}
    if model.task in REWRITING:
        settings = {**settings, "decoder_start_id": model.config.decoder_start_id, "eos_id": model.config.eos_id,
                    "generation_defaults": model.config.generation_defaults()}
    return settings


def _expand(rows, sizes, length=None):
    result = []
    for row in rows:
        if row.only_if and sizes.get(row.only_if, 1) < 2:
            continue
        layers = range(sizes["num_layers"]) if "{i}" in row.name else (None,)
        shape = tuple(length if size == "{length}" else sizes.get(size, size) for size in row.shape)
        result += [dataclasses.replace(row, name=row.name.format(i=i), file_name=row.file_name.format(i=i), shape=shape)
                   for i in layers]
    # Layer by layer: keys, then values, as runtimes list them.
    return tuple(sorted(result, key=lambda row: _layer(row.name)))


def _layer(name):
    number = name.rsplit("_", 1)[-1]
    return int(number) if name.startswith(("cache_", "context_")) and number.isdigit() else -1

"""A signature's computation: the model's one forward pass, dressed in the signature's names."""
from keras import ops

from kzoo.layers.cache import ContextCache, DecoderCache, GrowingCache, MemoryCache, StaticCache

# What models call their inputs, and what they take them as; files have other types.
DTYPES = {"token_ids": "int32", "padding_mask": "bool", "segment_ids": "int32", "global_mask": "bool",
          "encoder_token_ids": "int32", "encoder_padding_mask": "bool", "decoder_token_ids": "int32"}


def run_signature(model, signature, inputs):
    """Tensors in and out by kzoo's names.

    A signature with a memory takes and returns `memory_{i}` and `memory_padding_mask`.

    A signature with a past takes `cache_keys_{i}` and `cache_values_{i}`: of fixed size where all of the row's sizes
    are numbers, else growing. One that only returns a cache starts from an empty one. A model with an encoder also
    has `context_keys_{i}` and `context_values_{i}`, what its decoder's layers made of the `encoder_hidden_states`.

    Args:
        model: a task model.
        signature: an expanded `kzoo.export.signatures.Signature`.
        inputs: dict name -> tensor, as the rows of `signature.inputs` say.

    Returns: dict name -> tensor for the rows of `signature.outputs`.
    """
    rows = {row.name: row for row in (*signature.outputs, *signature.inputs)}
    call = {name: ops.cast(inputs[name], dtype) for name, dtype in DTYPES.items() if name in inputs}
    if "positions" in inputs:
        ids = call["token_ids" if "token_ids" in call else "decoder_token_ids"]
        call["positions"] = ops.reshape(ops.cast(inputs["positions"], "int32"),
                                        (-1, ids.shape[1] or ops.shape(ids)[1]))
    run = _run_encoder_decoder if hasattr(model.backbone, "read_source") else _run_stack
    outputs = run(model, rows, call, inputs)
    return {row.name: outputs[row.name] for row in signature.outputs}


def _run_stack(model, rows, call, inputs):
    if "hidden_states" in rows:
        return _with_hidden_states(model, call)
    cache = None
    if "memory_0" in inputs:
        mask = ops.cast(inputs["memory_padding_mask"], "bool")
        cache = tuple(MemoryCache(inputs[f"memory_{i}"], mask) for i in range(model.config.num_layers))
    elif "cache_keys_0" in inputs:
        cache = tuple(_own_cache(rows, inputs, i) for i in range(model.config.num_layers))
    elif "cache_keys_0" in rows:
        cache = model.backbone.empty_cache(ops.shape(call["token_ids"])[0])
    outputs, cache = _forward(model, call, cache)
    if "memory_0" in rows:
        outputs["memory_padding_mask"] = ops.cast(cache[0].padding_mask, rows["memory_padding_mask"].dtype)
        outputs.update({f"memory_{i}": layer.hidden_states for i, layer in enumerate(cache)})
    return {**outputs, **_named("cache", cache or (), rows)}


def _run_encoder_decoder(model, rows, call, inputs):
    backbone = model.backbone
    if "decoder_token_ids" not in call:
        if "encoder_hidden_states" in rows:
            return {"encoder_hidden_states": ops.cast(backbone.read_source(call), "float32")}
        return _named("context", backbone.read_context(call), rows)
    cache = None
    if "context_keys_0" in inputs:
        cache = tuple(DecoderCache(_own_cache(rows, inputs, i), ContextCache(*_pair(rows, inputs, "context", i)))
                      for i in range(backbone.num_cached_layers()))
    elif "encoder_hidden_states" in inputs:
        cache = backbone.start_cache(call, hidden_states=inputs["encoder_hidden_states"])
    outputs, cache = _forward(model, call, cache)
    return {**outputs, **_named("cache", [layer.own for layer in cache or ()], rows),
            **_named("context", [layer.context for layer in cache or ()], rows)}


def _forward(model, call, cache):
    """(outputs by name, cache) of the model's forward pass."""
    outputs, cache = model.forward(call, cache, training=False)
    return outputs if isinstance(outputs, dict) else {model.output_name: outputs}, cache


def _with_hidden_states(model, call):
    """The outputs of an encoder with a head, and what the head read, which `Task.forward` does not show."""
    hidden_states, _ = model.backbone.forward(model.backbone.complete_inputs(call, model.task), training=False)
    return {model.output_name: model.head(hidden_states, call, training=False),
            "hidden_states": ops.cast(hidden_states, "float32")}


def _own_cache(rows, inputs, i):
    keys, values = _pair(rows, inputs, "cache", i)
    if all(isinstance(size, int) for size in rows[f"cache_keys_{i}"].shape):
        # The first token's position is the first free slot: prompts start at 0 and have no gaps.
        return StaticCache(keys, values, ops.cast(inputs["positions"], "int32")[0])
    return GrowingCache(keys, values)


def _pair(rows, inputs, kind, i):
    """Keys and values (B, S, K, D) of one layer."""
    return [_swap(inputs[f"{kind}_{part}_{i}"], rows[f"{kind}_{part}_{i}"]) for part in ("keys", "values")]


def _named(kind, layers, rows):
    """name -> tensor, in the layout of the rows, of those that have one."""
    result = {}
    for i, layer in enumerate(layers):
        for part in ("keys", "values"):
            name = f"{kind}_{part}_{i}"
            if name in rows:
                result[name] = _filled_up(_swap(getattr(layer, part), rows[name]), rows[name])
    return result


def _filled_up(tensor, row):
    """With zeros to the row's length, where that is a number and larger: masks hide them."""
    if all(isinstance(size, int) for size in row.shape) and tensor.shape[1] < row.shape[1]:
        return ops.pad(tensor, ((0, 0), (0, row.shape[1] - tensor.shape[1]), (0, 0), (0, 0)))
    return tensor


def _swap(tensor, row):
    """Between the layout of a file, (B, K, S, D) in some, and (B, S, K, D) of the model."""
    return ops.transpose(tensor, (0, 2, 1, 3)) if isinstance(row.shape[2], str) else tensor

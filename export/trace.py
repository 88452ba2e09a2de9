"""A signature's computation: the model's one forward pass, dressed in the signature's names."""
from keras import ops

from kzoo.layers.cache import GrowingCache, StaticCache


def run_signature(model, signature, inputs):
    """Tensors in and out by kzoo's names.

    A signature with a past takes `cache_keys_{i}` and `cache_values_{i}`: of fixed size where all of the row's sizes
    are numbers, else growing. One that only returns a cache starts from an empty one.

    Args:
        model: a task model with `forward(inputs, cache)`.
        signature: an expanded `kzoo.export.signatures.Signature`.
        inputs: dict name -> tensor, as the rows of `signature.inputs` say.

    Returns: dict name -> tensor for the rows of `signature.outputs`.
    """
    rows = {row.name: row for row in (*signature.outputs, *signature.inputs)}
    cached = "cache_keys_0" in rows
    heads_first = cached and isinstance(rows["cache_keys_0"].shape[2], str)
    token_ids = ops.cast(inputs["token_ids"], "int32")
    call = {"token_ids": token_ids}
    if "padding_mask" in inputs:
        call["padding_mask"] = ops.cast(inputs["padding_mask"], "bool")
    cache = None
    if "positions" in inputs:
        positions = ops.cast(inputs["positions"], "int32")
        call["positions"] = ops.reshape(positions, (-1, token_ids.shape[1] or ops.shape(token_ids)[1]))
    if "cache_keys_0" in inputs:
        cache = tuple(_layer_cache(rows, inputs, i, heads_first) for i in range(model.config.num_layers))
    elif cached:
        cache = model.backbone.empty_cache(ops.shape(token_ids)[0])
    logits, cache = model.forward(call, cache, training=False)
    outputs = {"logits": logits}
    for i, layer in enumerate(cache or ()):
        outputs[f"cache_keys_{i}"] = _swap(layer.keys, heads_first)
        outputs[f"cache_values_{i}"] = _swap(layer.values, heads_first)
    return {row.name: outputs[row.name] for row in signature.outputs}


def _layer_cache(rows, inputs, i, heads_first):
    keys, values = (_swap(inputs[f"cache_{kind}_{i}"], heads_first) for kind in ("keys", "values"))
    if all(isinstance(size, int) for size in rows[f"cache_keys_{i}"].shape):
        # The first token's position is the first free slot: prompts start at 0 and have no gaps.
        return StaticCache(keys, values, ops.cast(inputs["positions"], "int32")[0])
    return GrowingCache(keys, values)


def _swap(tensor, heads_first):
    """Between (B, K, S, D) of the file and (B, S, K, D) of the model."""
    return ops.transpose(tensor, (0, 2, 1, 3)) if heads_first else tensor

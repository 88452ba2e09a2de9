"""Both decoders of an encoder-decoder in one ONNX graph, and weights that several graphs share.

Programs in JavaScript know only this graph, and Optimum takes it first. The branch that it has chooses what stands
before the decoder: caches that came in, or fresh ones made from the encoder's states. The decoder itself, and every
weight, is there once.
"""
import hashlib

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from kzoo.export.onnx_nodes import constant
from kzoo.export.signature_tables import MERGED
from kzoo.export.signatures import merged_signature

SMALL = 1024  # bytes; shapes and the like stay in the graph, where readers look for them


def merge_decoders(prefill, decode, forms):
    """One graph for `merged_signature(forms)`.

    Args:
        prefill, decode: `onnx_ir.Model` of these signatures, as they are written; they are left as they are.
        forms: name -> signature, with both.
    """
    form, model = merged_signature(forms), decode.clone()
    graph = model.graph
    model.opset_imports.update(prefill.opset_imports)
    given = {value.name: value for value in graph.inputs}
    for row in form.inputs:
        value = given.setdefault(row.file_name, ir.Value(
            name=row.file_name, type=ir.TensorType(ir.DataType.from_numpy(np.dtype(row.dtype)))))
        value.shape = ir.Shape(row.shape)
    pasts = [row for row in forms["decode"].inputs if row.file_name not in {
        each.file_name for each in forms["prefill"].inputs}]
    contexts = {row.name: row.file_name for row in forms["prefill"].outputs if row.name.startswith("context_")}

    fresh = ir.convenience.extract(prefill.graph, [row.file_name for row in forms["prefill"].inputs],
                                   list(contexts.values()))
    _enclose(fresh, graph, given)
    made = dict(zip(contexts, fresh.outputs, strict=True))
    fresh.outputs[:] = [made[row.name] if row.name in made else _empty(graph, fresh, next(iter(made.values())), row)
                        for row in pasts]
    choice = ir.node("If", [given[MERGED.inputs[0].file_name]], num_outputs=len(pasts), name="choose_caches")
    for row, chosen in zip(pasts, choice.outputs, strict=True):
        chosen.name, chosen.type = contexts.get(row.name, f"{row.file_name}_chosen"), given[row.file_name].type
        ir.convenience.replace_all_uses_with(given[row.file_name], chosen)
    kept = [ir.node("Identity", [given[row.file_name]], name=f"keep_{row.file_name}") for row in pasts]
    for row, node in zip(pasts, kept, strict=True):
        node.outputs[0].name, node.outputs[0].type = f"{row.file_name}_kept", given[row.file_name].type
    came_in = ir.Graph([], [node.outputs[0] for node in kept], nodes=kept, name="caches_that_came_in")
    choice.attributes.add(ir.AttrGraph("then_branch", came_in))
    choice.attributes.add(ir.AttrGraph("else_branch", fresh))
    graph.insert_before(graph[0], choice)

    results = {value.name: value for value in (*graph.outputs, *choice.outputs)}
    graph.inputs[:] = [given[row.file_name] for row in form.inputs]
    graph.outputs[:] = [results[row.file_name] for row in form.outputs]
    for row in form.outputs:
        results[row.file_name].shape = ir.Shape(row.shape)
    common.TopologicalSortPass()(model)
    return model


def _enclose(inner, outer, given):
    """Let `inner`, a graph of its own, use the inputs and weights of the graph that it will stand in.

    What it computes from weights alone moves out too, so that a runtime does it once, when it opens the file.
    """
    for value in list(inner.inputs):
        ir.convenience.replace_all_uses_with(value, given[value.name])
    inner.inputs.clear()
    names = {value.name for node in outer for value in node.outputs} | set(given)
    for name, value in list(inner.initializers.items()):
        del inner.initializers[name]
        same = outer.initializers.get(name)
        if same is not None and content(same.const_value) == content(value.const_value):
            ir.convenience.replace_all_uses_with(value, same)
            continue
        value.name = f"fresh_{name}" if same is not None or name in names else name
        outer.initializers[value.name] = value
    first, fixed = outer[0], set()
    for node in list(inner):
        node.name = f"fresh_{node.name}"
        for value in node.outputs:
            value.name = f"fresh_{value.name}"
        if all(value is None or value.is_initializer() or value in fixed for value in node.inputs) and (
                not any(value.is_graph_output() for value in node.outputs)):
            fixed.update(node.outputs)
            inner.remove(node)
            outer.insert_before(first, node)


def _empty(graph, inner, like, row):
    """A cache without slots, by taking none of those of `like`."""
    none, slots = (_number(graph, number) for number in (0, 2))
    node = ir.node("Slice", [like, none, none, slots], name=f"empty_{row.file_name}")
    node.outputs[0].name, node.outputs[0].type = f"{row.file_name}_empty", like.type
    inner.append(node)
    return node.outputs[0]


def _number(graph, number):
    name = f"number_{number}"
    return graph.initializers.get(name) or constant(graph, name, np.array([number], "int64"))


def content(tensor):
    """What two equal tensors have in common."""
    return tensor.dtype, tuple(tensor.shape), hashlib.sha256(tensor.tobytes()).digest()


def save_together(models, paths):
    """Write graphs into one folder with one data file, in which every weight lies once.

    Args:
        models: `onnx_ir.Model`s; their weights are in the file afterwards.
        paths: of each; the data file is `<the last>_data`.

    Returns: the files written.
    """
    data = paths[-1].with_name(paths[-1].name + "_data")
    users, tensors = [], {}
    for model in models:
        for value in model.graph.initializers.values():
            if value.const_value.nbytes > SMALL:
                key = content(value.const_value)
                users.append((value, key))
                tensors.setdefault(key, value.const_value)
    # Wide numbers first: each then lies at a multiple of its own width.
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize))
    stored = dict(zip(tensors, ir.external_data.convert_tensors_to_external(
        list(tensors.values()), data.parent, data.name), strict=True))
    for value, key in users:
        place = stored[key]
        value.const_value = ir.ExternalTensor(data.name, place.offset, place.length, place.dtype, shape=place.shape,
                                              name=value.name, base_dir=data.parent)
    for model, path in zip(models, paths, strict=True):
        ir.save(model, path)
    return [*paths, data]

"""Attention as one operator, in every kind of graph that a task is written as."""
import collections

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import kzoo
from kzoo.checkpoint import variables_by_path
from kzoo.export import onnx_graph
from kzoo.export.onnx_model import convert_graph, place_weights, rename
from kzoo.export.signatures import signatures, sizes_of

LAYERS, HEADS, WIDTH = 2, 3, 7
SIZES = {"vocabulary_size": 31, "num_layers": LAYERS, "num_heads": HEADS, "intermediate_dim": 11}
BERT = {"hidden_dim": HEADS * WIDTH, "max_sequence_length": 17}
ENCODER = ("bert-tiny", "token-classification", BERT, {"labels": ("a", "b")})
CLASSIFIER = ("bert-mini", "text-classification", BERT, {"labels": ("a", "b")})
REWRITER = ("t5-small", "translation", {"hidden_dim": 13, "head_dim": WIDTH}, {})
# Model, signature -> attentions as one node, as several, norms as one node, masks to repeat for all queries, and all
# nodes at most. The last layer of a classifier has one query, whose heads are cut without a transposition.
GRAPHS = {
    "an encoder": (ENCODER, "forward", LAYERS, 0, 2 * LAYERS + 1, 1, 15 * LAYERS + 40),
    "a classifier": (CLASSIFIER, "forward", LAYERS, 0, 2 * LAYERS + 1, 1, 15 * LAYERS + 50),
    "an encoder with relative positions": (REWRITER, "encode", LAYERS, 0, 2 * LAYERS - 1, 1, 11 * LAYERS + 50),
    "a decoder that begins": (REWRITER, "prefill", 2 * LAYERS, 0, 3 * LAYERS - 2, 2, 26 * LAYERS + 70),
    "a decoder that goes on": (REWRITER, "decode", 2 * LAYERS, 0, 3 * LAYERS - 2, 1, 20 * LAYERS + 70),
}


@pytest.fixture(scope="module")
def models(redrawn):
    return {preset: redrawn(kzoo.create(preset, task=task, **SIZES, **fields, **settings))
            for preset, task, fields, settings in (ENCODER, CLASSIFIER, REWRITER)}


def converted(model, signature):
    weights = variables_by_path(model)
    form = signatures(model.task, "onnx", sizes_of(model))[signature]
    graph = ir.from_proto(convert_graph(model, form, weights))
    place_weights(graph.graph, {path: np.asarray(variable) for path, variable in weights.items()})
    rename(graph.graph, form)
    return graph


def outputs(graph, feeds):
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {value.name: feeds(value) for value in session.get_inputs()})


def feeds(value):
    """Two rows with padding in the second; sources of 6 tokens, targets of 3 with a past of 4 where there is one."""
    random = np.random.default_rng(len(value.name))
    sizes = {"batch_size": 2, "source_length": 6, "sequence_length": 3, "past_sequence_length": 4,
             "total_sequence_length": 7}
    shape = [sizes.get(size, size) for size in value.shape]
    if "mask" in value.name:
        mask = np.ones(shape, "int64")
        mask[1, -1] = 0
        return mask
    if value.type == "tensor(int64)":
        return random.integers(0, 2 if "type" in value.name else SIZES["vocabulary_size"], shape)
    return random.normal(size=shape).astype("float32")


@pytest.mark.parametrize("kind", GRAPHS)
def test_attention_is_one_node_and_says_the_same(kind, models):
    (preset, *_), signature, attentions, others, norms, masks, nodes = GRAPHS[kind]
    graph = converted(models[preset], signature)
    expected = outputs(graph, feeds)
    onnx_graph.clean(graph)
    counts = collections.Counter(node.op_type for node in graph.graph)
    assert counts["MultiHeadAttention"] == attentions and counts["Softmax"] == others
    assert counts["LayerNormalization"] + counts["SkipSimplifiedLayerNormalization"] == norms
    assert counts["Expand"] == masks, "what hides is repeated once for all layers"
    assert sum(counts.values()) <= nodes, counts
    for value, reference in zip(outputs(graph, feeds), expected, strict=True):
        np.testing.assert_allclose(value, reference, atol=2e-5 * np.ptp(reference))
    fused = next(node for node in graph.graph if node.op_type == "MultiHeadAttention")
    fused.attributes["scale"] = ir.AttrFloat32("scale", 3.0)
    changed = outputs(graph, feeds)
    assert any(np.abs(value - reference).max() > 1e-2 for value, reference in zip(changed, expected, strict=True))


def test_what_hides_still_hides(models):
    """The last token of the second row is padding: only what it says itself may depend on it."""
    graph = converted(models["t5-small"], "encode")
    onnx_graph.clean(graph)

    def other_ids(value):
        array = feeds(value)
        if value.name == "input_ids":
            array[1, -1] = (array[1, -1] + 1) % SIZES["vocabulary_size"]
        return array

    before, after = (outputs(graph, each)[0] for each in (feeds, other_ids))
    np.testing.assert_array_equal(before[1, :-1], after[1, :-1])

    def seen(value):
        return np.ones_like(other_ids(value)) if "mask" in value.name else other_ids(value)
    assert np.abs(outputs(graph, seen)[0][1, :-1] - before[1, :-1]).max() > 1e-3

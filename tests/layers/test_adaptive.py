"""Embedding and softmax in clusters, against the formula written out."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import AdaptiveEmbedding, AdaptiveSoftmax
from kzoo.layers.adaptive import cluster_sizes

B, T, E, V, WIDTH = 2, 5, 6, 23, 8
CUTOFFS = (7, 12)
rng = np.random.default_rng(0)
KINDS = {"clusters": (CUTOFFS, 2), "one width": (CUTOFFS, 1), "one cluster": ((), 1), "one wide cluster": ((), 2)}


def array(x):
    return ops.convert_to_numpy(x)


def made(kind, hidden_dim=E, width=WIDTH, **options):
    cutoffs, divisor = KINDS[kind]
    embedding = AdaptiveEmbedding(V, width, hidden_dim, cutoffs, divisor)
    embedding.build(None)
    softmax = AdaptiveSoftmax(embedding, **options)
    softmax.build(None)
    for layer in (embedding, softmax):
        layer.set_weights([rng.normal(size=weight.shape).astype("float32") for weight in layer.weights])
    return embedding, softmax


def table_of(layer, cluster, kind):
    """(rows, projection) of a cluster, from an embedding or a softmax."""
    tables, projections = ([array(each) for each in every] for every in (layer.tables, layer.projections))
    begin, end = ((0, *CUTOFFS)[cluster], (*CUTOFFS, V)[cluster]) if KINDS[kind][0] else (0, V)
    rows = tables[cluster] if len(tables) > 1 else tables[0][begin:end]
    if not projections:
        return rows, np.eye(E)
    return rows, projections[min(cluster, len(projections) - 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_agree_with_the_formula(kind):
    embedding, _ = made(kind)
    token_ids = np.array([[0, 6, 7, 11, 12], [22, 3, 9, 21, 7]], "int32")
    vectors = array(embedding(token_ids))
    assert vectors.shape == (B, T, E) == embedding.compute_output_shape((B, T))
    for b, t in np.ndindex(B, T):
        token = token_ids[b, t]
        cluster = int(np.searchsorted(KINDS[kind][0], token, side="right"))
        rows, projection = table_of(embedding, cluster, kind)
        expected = projection @ rows[token - (0, *KINDS[kind][0])[cluster]] * np.sqrt(E)
        np.testing.assert_allclose(vectors[b, t], expected, atol=1e-4)
    assert np.abs(array(embedding(token_ids[:, ::-1])) - vectors).max() > 0.1


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("tie_embeddings, tie_projections", [(True, True), (False, False)], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_agree_with_the_formula(kind, tie_embeddings, tie_projections):
    embedding, softmax = made(kind, tie_embeddings=tie_embeddings, tie_projections=tie_projections)
    x = rng.normal(size=(B, T, E)).astype("float32")
    result = array(softmax(x))
    assert result.shape == (B, T, V) == softmax.compute_output_shape((B, T, E))
    biases = np.concatenate([array(bias) for bias in softmax.biases])
    expected, begin = [], 0
    for cluster, size in enumerate(cluster_sizes(V, KINDS[kind][0])):
        rows, projection = table_of(softmax, cluster, kind)
        bias = biases[begin:begin + size]
        begin += size
        if cluster == 0 and KINDS[kind][0]:
            rows = np.concatenate([rows, array(softmax.cluster_embeddings)])
            bias = np.concatenate([bias, array(softmax.cluster_bias)])
        scores = x @ projection @ rows.T + bias
        if cluster == 0:
            first = log_softmax(scores)
            expected.append(first[..., :size])
        else:
            expected.append(log_softmax(scores) + first[..., CUTOFFS[0] + cluster - 1, None])
    expected = np.concatenate(expected, axis=-1)
    np.testing.assert_allclose(log_softmax(result), expected, atol=1e-4)
    if KINDS[kind][0]:  # they are log-probabilities already
        np.testing.assert_allclose(result, expected, atol=1e-4)
        np.testing.assert_allclose(np.exp(result).sum(axis=-1), 1, atol=1e-5)
        swapped = np.concatenate([expected[..., :CUTOFFS[0]], expected[..., CUTOFFS[0]:][..., ::-1]], axis=-1)
        assert np.abs(result - swapped).max() > 0.1
    own = {id(each) for each in embedding.weights}
    assert [id(each) in own for each in softmax.tables] == [tie_embeddings] * len(embedding.tables)
    further = len(softmax.projections) - 1
    assert [id(each) in own for each in softmax.projections] == [False] + [tie_projections] * further


def test_equal_widths_need_no_projection():
    embedding, softmax = made("one cluster", hidden_dim=WIDTH)
    assert not embedding.projections and not softmax.projections
    assert len(embedding.weights) == 1
    embedding, softmax = made("clusters", hidden_dim=WIDTH)  # but where widths fall, every cluster has one
    assert len(embedding.projections) == len(softmax.projections) == 3


def test_half_precision_sums_in_float32():
    embedding = AdaptiveEmbedding(V, WIDTH, E, CUTOFFS, 2, dtype="mixed_bfloat16")
    softmax = AdaptiveSoftmax(embedding, dtype="mixed_bfloat16")
    softmax.build(None)
    x = embedding(np.array([[3, 9, 22]], "int32"))
    assert keras.backend.standardize_dtype(x.dtype) == "bfloat16"
    result = softmax(x)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    np.testing.assert_allclose(np.exp(array(result)).sum(axis=-1), 1, atol=1e-4)


def test_round_trip():
    embedding, softmax = made("clusters", tie_projections=False)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(softmax))
    if not again.built:
        again.build(None)
    again.embedding.set_weights(embedding.get_weights())
    again.set_weights(softmax.get_weights())
    x = rng.normal(size=(B, T, E)).astype("float32")
    np.testing.assert_array_equal(array(again(x)), array(softmax(x)))
    assert again.get_config()["tie_projections"] is False


def test_a_width_that_is_not_the_hidden_states_is_refused():
    _, softmax = made("one cluster", hidden_dim=WIDTH)
    with pytest.raises(Exception, match=f"{E}|{WIDTH}"):
        softmax(np.zeros((B, T, E), "float32"))

"""A block is its parts in the order of its placement."""
import keras
import numpy as np
import pytest
from keras import ops

from kzoo.layers import (
    Attention,
    Causal,
    Context,
    DecoderCache,
    FeedForward,
    GrowingCache,
    LayerNormalization,
    MemoryCache,
    Positions,
    RMSNormalization,
    TransformerBlock,
    locate,
)

B, T, S, E, F, H, D = 2, 5, 7, 6, 11, 2, 3
rng = np.random.default_rng(9)
x = rng.normal(size=(B, T, E)).astype("float32")
POSITIONS = locate(np.zeros((B, T), "int32"))


def block(placement, dropout=0.0, norm=LayerNormalization):
    layer = TransformerBlock(Attention(H, D, E, mask=Causal()), FeedForward(F, E), norm(0.1), norm(0.2), placement,
                             dropout)
    layer.build((B, T, E))
    layer.set_weights([rng.normal(0, 0.4, size=weight.shape).astype("float32") for weight in layer.weights])
    return layer


def array(x):
    return ops.convert_to_numpy(x)


def written_out(layer, placement):
    def attention(x):
        return layer.attention(x, POSITIONS)[0]

    if placement == "pre":
        y = x + attention(layer.attention_norm(x))
        return array(y + layer.feed_forward(layer.feed_forward_norm(y)))
    y = layer.attention_norm(x + attention(x))
    return array(layer.feed_forward_norm(y + layer.feed_forward(y)))


@pytest.mark.parametrize("norm", [LayerNormalization, RMSNormalization])
@pytest.mark.parametrize("placement, other", [("pre", "post"), ("post", "pre")])
def test_agrees_with_the_formula(placement, other, norm):
    layer = block(placement, norm=norm)
    result, cache = layer(x, POSITIONS)
    assert cache is None
    np.testing.assert_allclose(array(result), written_out(layer, placement), atol=1e-5)
    assert np.abs(array(result) - written_out(layer, other)).max() > 0.1


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_the_residual_is_the_input_itself(placement):
    """With branches that answer nothing, what is left is x, normalised in "post"; no extra projection, no ReLU."""
    layer = block(placement)
    for dense in (layer.attention.output_dense, layer.feed_forward.down):
        dense.set_weights([np.zeros_like(weight) for weight in dense.get_weights()])
    expected = x if placement == "pre" else array(layer.feed_forward_norm(layer.attention_norm(x)))
    np.testing.assert_allclose(array(layer(x, POSITIONS)[0]), expected, atol=1e-6)


def test_the_cache_passes_through():
    layer = block("pre")
    cache = GrowingCache.empty(B, H, D, "float32")
    first, cache = layer(x[:, :3], locate(np.zeros((B, 3), "int32"), cache=cache), cache)
    second, cache = layer(x[:, 3:], locate(np.zeros((B, 2), "int32"), cache=cache), cache)
    assert int(cache.index) == T
    np.testing.assert_allclose(np.concatenate([array(first), array(second)], axis=1), array(layer(x, POSITIONS)[0]),
                               atol=1e-5)


@pytest.mark.parametrize("branch", ["attention", "feed_forward"])
def test_dropout_reaches_each_branch_in_training_only(branch):
    layer = block("pre", dropout=0.5)
    silent = layer.feed_forward.down if branch == "attention" else layer.attention.output_dense
    silent.set_weights([np.zeros_like(weight) for weight in silent.get_weights()])
    np.testing.assert_allclose(array(layer(x, POSITIONS)[0]), written_out(layer, "pre"), atol=1e-5)
    dropped = array(layer(x, POSITIONS, training=True)[0]) - x
    plain = written_out(layer, "pre") - x
    zeros = np.abs(dropped) < 1e-6
    assert 0.2 < zeros.mean() < 0.8  # a feature of the branch is dropped or doubled, and x itself is kept
    np.testing.assert_allclose(dropped[~zeros], 2 * plain[~zeros], rtol=1e-3, atol=1e-4)


def test_an_unknown_placement_is_refused():
    with pytest.raises(ValueError, match="Unknown placement of the norm 'before'.*post, pre"):
        block("before")


def test_round_trip():
    layer = block("post", dropout=0.2, norm=RMSNormalization)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.placement == "post" and again.dropout.rate == 0.2
    assert isinstance(again.attention_norm, RMSNormalization)
    if not again.built:
        again.build((B, T, E))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(array(again(x, POSITIONS)[0]), array(layer(x, POSITIONS)[0]))


# With cross-attention.

source = rng.normal(size=(B, S, E)).astype("float32")
SOURCE_MASK = np.array([[True] * S, [True] * 4 + [False] * 3])


def crossing(placement):
    layer = TransformerBlock(Attention(H, D, E, mask=Causal()), FeedForward(F, E), LayerNormalization(0.1),
                             LayerNormalization(0.2), placement, cross_attention=Attention(H, D, E, name="cross"),
                             cross_attention_norm=LayerNormalization(0.3))
    layer.build((B, T, E))
    layer.set_weights([rng.normal(0, 0.4, size=weight.shape).astype("float32") for weight in layer.weights])
    return layer


def context_of(positions, hidden_states=source):
    keys = locate(source, SOURCE_MASK)
    return Context(hidden_states, positions._replace(key=keys.key, padding_mask=keys.padding_mask))


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_cross_attention_stands_between_the_two(placement):
    layer, context = crossing(placement), context_of(POSITIONS)

    def cross(x):
        return layer.cross_attention(x, context.positions, None, source)[0]

    if placement == "pre":
        y = x + layer.attention(layer.attention_norm(x), POSITIONS)[0]
        y = y + cross(layer.cross_attention_norm(y))
        expected = y + layer.feed_forward(layer.feed_forward_norm(y))
    else:
        y = layer.attention_norm(x + layer.attention(x, POSITIONS)[0])
        y = layer.cross_attention_norm(y + cross(y))
        expected = layer.feed_forward_norm(y + layer.feed_forward(y))
    result, cache = layer(x, POSITIONS, context=context)
    assert cache is None
    np.testing.assert_allclose(array(result), array(expected), atol=1e-5)
    other = layer(x, POSITIONS, context=context_of(POSITIONS, source[::-1].copy()))[0]
    assert np.abs(array(other) - array(result)).max() > 0.01


def test_padding_of_the_context_is_not_seen():
    layer, noise = crossing("pre"), source.copy()
    noise[1, 4:] = 9
    np.testing.assert_array_equal(array(layer(x, POSITIONS, context=context_of(POSITIONS))[0]),
                                  array(layer(x, POSITIONS, context=context_of(POSITIONS, noise))[0]))
    noise[1, 3] = 9
    assert np.abs(array(layer(x, POSITIONS, context=context_of(POSITIONS))[0])
                  - array(layer(x, POSITIONS, context=context_of(POSITIONS, noise))[0])).max() > 0.01


def test_a_context_that_was_read_once_is_the_context():
    layer = crossing("post")
    expected = array(layer(x, POSITIONS, context=context_of(POSITIONS))[0])
    read = layer.cross_attention.read_context(source, locate(source, SOURCE_MASK))
    cache, results = DecoderCache(GrowingCache.empty(B, H, D, "float32"), read), []
    for piece in (x[:, :3], x[:, 3:]):
        positions = locate(piece, cache=cache.own)
        result, cache = layer(piece, positions, cache, context_of(positions, None))
        results.append(array(result))
    assert int(cache.own.index) == T
    np.testing.assert_array_equal(array(cache.context.keys), array(read.keys))
    np.testing.assert_allclose(np.concatenate(results, axis=1), expected, atol=1e-5)


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_a_memory_stands_before_the_segment(placement):
    """Keys and values come from both, queries and the residual from the segment; norms see each token alone."""
    layer = block(placement)
    before = rng.normal(size=(B, S, E)).astype("float32")
    memory = MemoryCache(ops.array(before), ops.ones((B, S), "bool"))
    key = np.arange(S + T, dtype="int32")[None]
    result, passed = layer(x, Positions(key[:, S:], key[:, S:], key, None), memory)
    np.testing.assert_array_equal(array(passed.hidden_states), before)
    whole = np.concatenate([before, x], axis=1)
    expected = array(layer(whole, Positions(key, key, key, None))[0])
    np.testing.assert_allclose(array(result), expected[:, S:], atol=1e-5)
    assert np.abs(array(layer(x, POSITIONS)[0]) - array(result)).max() > 0.01

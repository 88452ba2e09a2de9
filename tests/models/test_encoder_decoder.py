"""What encoder-decoders share: the source is read once, padding is not seen, caches fit; on one small model each."""
import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.models import EncoderDecoder, T5Config

B, S, T = 3, 9, 7
SIZES = dict(vocabulary_size=29, num_layers=1, num_decoder_layers=2, num_heads=2, hidden_dim=12, intermediate_dim=17)
PRESETS = {"transformer-base": {"dropout": 0.0}, "t5-small": {"head_dim": 5, "dropout": 0.0}}
rng = np.random.default_rng(0)
SOURCE, TARGET = (rng.integers(0, 29, (B, length)).astype("int32") for length in (S, T))
MASK = np.arange(S) < np.array([[9], [4], [6]])


@pytest.fixture(scope="module", params=PRESETS)
def model(request, redraw):
    return redraw(kzoo.create(request.param, **SIZES, **PRESETS[request.param]), scale=1.0)


def array(x):
    return ops.convert_to_numpy(x)


def decoded(model, cache, pieces=(3, 1, 3), **inputs):
    """Logits (B, T, V) of the target, a few tokens at a time."""
    start, results = 0, []
    for length in pieces:
        piece = {"decoder_token_ids": TARGET[:, start:start + length], **inputs}
        result, cache = model.forward(piece, cache)
        results.append(array(result))
        start += length
    return np.concatenate(results, axis=1)


def test_decoding_needs_the_source_once(model):
    inputs = {"encoder_token_ids": SOURCE, "encoder_padding_mask": MASK}
    expected = array(model({**inputs, "decoder_token_ids": TARGET}))
    cache = model.backbone.start_cache(inputs, capacity=T)
    weights = model.get_weights()
    for weight in model.weights:  # from here on the encoder, and what reads its output, may say what they like
        if "encoder" in weight.path or "cross_attention/key" in weight.path or "cross_attention/value" in weight.path:
            weight.assign(np.full(weight.shape, 7.0))
    try:
        found = decoded(model, cache, encoder_padding_mask=MASK)
    finally:
        model.set_weights(weights)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    without = decoded(model, model.backbone.start_cache(inputs, capacity=T))  # the mask still matters
    assert np.abs(without - expected)[1:].max() > 0.01


def test_caches_have_the_decoders_shape(model):
    config = model.config
    width = getattr(config, "head_dim", config.hidden_dim // config.num_heads)
    for capacity, slots in ((None, 0), (13, 13)):
        cache = model.backbone.start_cache({"encoder_token_ids": SOURCE}, capacity)
        assert len(cache) == config.num_decoder_layers
        assert tuple(cache[1].own.keys.shape) == (B, slots, config.num_heads, width)
        assert tuple(cache[1].context.values.shape) == (B, S, config.num_heads, width)


def test_the_decoder_hears_of_every_source_token_and_of_no_later_target(model):
    before = array(model({"encoder_token_ids": SOURCE, "decoder_token_ids": TARGET}))
    for place in (0, S - 1):
        changed = SOURCE.copy()
        changed[:, place] = (changed[:, place] + 1) % 29
        after = array(model({"encoder_token_ids": changed, "decoder_token_ids": TARGET}))
        assert (np.abs(after - before).max(axis=-1) > 1e-5).all()
    changed = TARGET.copy()
    changed[:, 4] = (changed[:, 4] + 1) % 29
    after = array(model({"encoder_token_ids": SOURCE, "decoder_token_ids": changed}))
    np.testing.assert_array_equal(after[:, :4], before[:, :4])  # bit for bit


def test_inputs_are_named(model):
    with pytest.raises(ValueError, match="Model inputs lack `encoder_token_ids`. Received: token_ids"):
        model({"token_ids": SOURCE})
    with pytest.raises(ValueError, match="Model inputs lack `decoder_token_ids`"):
        model.backbone({"encoder_token_ids": SOURCE})
    shape = {"encoder_token_ids": (B, S), "decoder_token_ids": (B, T)}
    assert model.backbone.compute_output_shape(shape) == (B, T, 12)
    assert tuple(model.backbone({"encoder_token_ids": SOURCE, "decoder_token_ids": TARGET}).shape) == (B, T, 12)


def test_float16_survives_features_that_it_cannot_hold(redraw):
    """As those of published T5 checkpoints, in whose feed-forwards they arise."""
    inputs = {"encoder_token_ids": SOURCE, "decoder_token_ids": TARGET}
    half, full = (redraw(kzoo.create("t5-small", **SIZES, **PRESETS["t5-small"], dtype=dtype), scale=1.0)
                  for dtype in ("mixed_float16", "float32"))
    for each in (half, full):
        for block in (*each.backbone.encoder_blocks, *each.backbone.decoder_blocks):
            block.feed_forward.down.kernel.assign(ops.sign(block.feed_forward.down.kernel) * 3e4)
    x, positions = full.backbone.token_embedding(SOURCE), full.backbone.locate(SOURCE)
    assert ops.max(ops.abs(full.backbone.encoder_blocks[0](x, positions)[0])) > 1e5  # float16 ends at 65,504
    assert np.isfinite(array(half(inputs))).all()


def test_a_family_must_say_what_it_computes():
    class Empty(EncoderDecoder):
        config_class = T5Config

    backbone = Empty(T5Config(**{**SIZES, "vocabulary_size": 7}))
    assert backbone.source_vocabulary_size == backbone.target_vocabulary_size == 7
    for name, arguments in (("encode", (SOURCE, None)), ("decode", (TARGET, None, None)), ("logits", (TARGET,))):
        with pytest.raises(NotImplementedError, match=f"Empty must define `{name}`"):
            getattr(backbone, name)(*arguments)


def test_precision_of_caches():
    backbone = kzoo.create("t5-small", **SIZES, dtype="mixed_bfloat16").backbone
    cache = backbone.start_cache({"encoder_token_ids": SOURCE})
    assert {keras.backend.standardize_dtype(each.dtype) for each in keras.tree.flatten(cache)} == {"bfloat16"}

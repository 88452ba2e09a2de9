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
    made = redraw(kzoo.create(request.param, **SIZES, **PRESETS[request.param]), scale=1.0)
    made.preset_name = request.param
    return made


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


def variant(model, pattern):
    """The same model with self-attention of another pattern, and its logits."""
    other = kzoo.create(model.preset_name, **SIZES, **PRESETS[model.preset_name], pattern=pattern)
    other.set_weights(model.get_weights())
    return other, array(other({"encoder_token_ids": SOURCE, "encoder_padding_mask": MASK, "decoder_token_ids": TARGET}))


def test_patterns_are_those_of_self_attention(model):
    expected = array(model({"encoder_token_ids": SOURCE, "encoder_padding_mask": MASK, "decoder_token_ids": TARGET}))
    blockwise, found = variant(model, {"name": "blockwise", "block_size": 4})
    np.testing.assert_allclose(found, expected, atol=2e-5)
    blocks = {"name": "block_local", "block_size": 2}
    local, found = variant(model, blocks)
    assert np.abs(found - expected).max() > 0.01
    for stack in (local.backbone.encoder_blocks, local.backbone.decoder_blocks):
        assert all(type(block.attention.pattern).__name__ == "BlockLocal" for block in stack)
    assert all(type(block.cross_attention.pattern).__name__ == "Full" for block in local.backbone.decoder_blocks)
    # With a cache, and on whichever side the source is padded.
    cache = local.backbone.start_cache({"encoder_token_ids": SOURCE, "encoder_padding_mask": MASK}, capacity=T)
    np.testing.assert_allclose(decoded(local, cache, encoder_padding_mask=MASK), found, atol=2e-5)
    left = np.stack([np.roll(row, S - mask.sum()) for row, mask in zip(SOURCE, MASK, strict=True)])
    moved = local({"encoder_token_ids": left, "encoder_padding_mask": MASK[:, ::-1], "decoder_token_ids": TARGET})
    np.testing.assert_allclose(array(moved), found, atol=2e-5)


def test_a_pattern_that_hugging_face_has_not_stays_here(model, tmp_path):
    changes = {"transformer-base": {"position": "sinusoidal_halves"}}.get(model.preset_name, {})
    local = kzoo.create(model.preset_name, **SIZES, **PRESETS[model.preset_name], **changes,
                        pattern={"name": "strided", "stride": 3})
    with pytest.raises(ValueError, match="has no room for `pattern`=.*keep it in the kzoo format"):
        kzoo.save(local, tmp_path / "hf", format="hugging_face")
    kzoo.save(local, tmp_path / "ours")
    assert kzoo.load(tmp_path / "ours").config.pattern == {"name": "strided", "stride": 3}
    with pytest.raises(ValueError, match="The pattern 'block_local' needs `block_size`"):
        kzoo.create(model.preset_name, **SIZES, pattern="block_local")

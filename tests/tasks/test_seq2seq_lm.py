"""Translation and summarization with real models: ordinary Keras models that also generate."""
import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.tokenizers import train_tokenizer

V, C = 29, 37
SIZES = dict(num_layers=1, num_decoder_layers=2, num_heads=2, hidden_dim=12, intermediate_dim=17, dropout=0.0)
PRESETS = {"transformer-base": {"norm_placement": "pre"}, "t5-small": {"head_dim": 5}}
SOURCES = [[7, 2, 11, 1], [19, 1], [28, 3, 3, 13, 6, 17, 8, 5, 5, 2, 9, 4, 4, 4, 21, 22, 23, 1]]  # a wide one
rng = np.random.default_rng(0)


def make(name, **changes):
    sizes = {**dict(vocabulary_size=V, max_sequence_length=C), **SIZES, **PRESETS[name], **changes}
    model = kzoo.create(name, **sizes)
    return redraw(model)


def redraw(model, seed=1):
    """N(0, 0.3), but with norms that make much of what the decoder reads: else a target is one token over and over."""
    draw = np.random.default_rng(seed)
    wide = 1.0 if hasattr(model.config, "norm_placement") else 0.3
    model.set_weights([draw.normal(0, wide if weight.name == "scale" and "decoder" in weight.path else 0.3,
                                   weight.shape) for weight in model.weights])
    return model


@pytest.fixture(scope="module", params=PRESETS)
def model(request):
    return make(request.param)


def greedy(model, source, steps, banned=()):
    """The most probable token, step by step, with the whole row computed anew each time."""
    row = [model.config.decoder_start_id]
    for _ in range(steps):
        padded = np.array([row + [0] * (steps + 1 - len(row))], "int32")  # one shape; what follows is not seen
        logits = ops.convert_to_numpy(model({"encoder_token_ids": np.array([source], "int32"),
                                             "decoder_token_ids": padded}))[0, len(row) - 1]
        logits[list(banned)] = -np.inf
        row.append(int(logits.argmax()))
    return row[1:]


FREE = {"eos_token_id": (), "forced_eos_token_id": None, "suppress_tokens": ()}


def test_generation_is_the_plain_loop(model):
    expected = [greedy(model, source, 6) for source in SOURCES]
    assert model.generate(SOURCES, max_new_tokens=6, **FREE) == expected
    assert [model.generate(source, max_new_tokens=6, **FREE) for source in SOURCES] == expected  # alone as together
    assert len({tuple(row) for row in expected}) == 3  # the source matters


def test_batches_do_not_matter(model):
    sources = [rng.integers(2, V, length).tolist() for length in rng.integers(1, C, 11)]
    seen = set()
    for beams in (1, 3):
        options = {"max_new_tokens": 5, "num_beams": beams, **FREE}
        together = model.generate(sources, **options)
        assert together == model.generate(sources, batch_tokens=64, **options)
        assert together == model.generate(sources[::-1], **options)[::-1]
        seen |= {tuple(row) for row in together}
    assert len(seen) > 3


def test_generation_uses_the_weights_of_now(model):
    before = model.get_weights()
    first = model.generate(SOURCES[0], max_new_tokens=6, **FREE)
    redraw(model, seed=6)
    second = model.generate(SOURCES[0], max_new_tokens=6, **FREE)
    assert second == greedy(model, SOURCES[0], 6) and second != first
    model.set_weights(before)
    assert model.generate(SOURCES[0], max_new_tokens=6, **FREE) == first


def test_what_ends_and_pads_comes_from_the_config():
    model = make("transformer-base")
    free = greedy(model, SOURCES[0], 6)
    ending = make("transformer-base", eos_id=free[3], pad_id=28, decoder_start_id=0)
    ending.set_weights(model.get_weights())
    assert ending.generate(SOURCES[0], max_new_tokens=6) == free[:4]
    padding = make("transformer-base", pad_id=free[0], eos_id=28, decoder_start_id=0)
    padding.set_weights(model.get_weights())
    found = padding.generate(SOURCES[0], max_new_tokens=6)
    assert found[:5] == greedy(model, SOURCES[0], 5, banned=[free[0]])  # padding is never said
    assert found[-1] == 28  # and the last place ends the target
    assert padding.generate(SOURCES[0], max_new_tokens=6, suppress_tokens=(), forced_eos_token_id=None) == free


def test_the_context_is_the_end(model):
    with pytest.raises(ValueError, match=f"Source 0 has {C + 1} tokens, and the model reads at most {C}"):
        model.generate([3] * (C + 1))
    with pytest.warns(UserWarning, match=f"max_sequence_length={C}, before max_new_tokens=64"):
        row = model.generate([3] * (C + 1), truncate=True, max_new_tokens=64, **FREE)
    assert len(row) == C - 1 and row[:5] == greedy(model, [3] * C, 5)


def test_targets_without_a_limit():
    model = make("t5-small", max_sequence_length=None)
    row = model.generate([3] * 50, max_new_tokens=40, **FREE)
    assert len(row) == 40 and row[:3] == greedy(model, [3] * 50, 3)


def test_half_precision_generates(model):
    half = make(["transformer-base", "t5-small"][hasattr(model.config, "head_dim")], dtype="mixed_bfloat16")
    assert len(half.generate(SOURCES[0], max_new_tokens=6, num_beams=2, **FREE)) == 6


# Text.

@pytest.fixture(scope="module")
def tokenizer():
    texts = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs"]
    return train_tokenizer("sentencepiece", texts, 300)


@pytest.mark.parametrize("name", PRESETS)
def test_text_in_text_out(name, tokenizer):
    model = make(name, vocabulary_size=tokenizer.vocabulary_size, tokenizer=tokenizer)
    assert (model.config.pad_id, model.config.eos_id, model.config.decoder_start_id) == (0, 1, 0)
    pieces, source = [], tokenizer.encode("lazy fox") + [tokenizer.eos_id]
    options = {"max_new_tokens": 7, **FREE}
    text = model.generate("lazy fox", stream=pieces.append, **options)
    assert text == tokenizer.decode(model.generate(source, **options)) == "".join(pieces) != ""
    assert model("lazy fox", **options) == text
    assert model(["lazy fox", "my dog"], **options)[0] == text and isinstance(model("dog", **options), str)
    assert model.generate(["dog", "lazy fox"], num_beams=2, **options)[1] == model("lazy fox", num_beams=2, **options)
    with pytest.raises(ValueError, match="Source 1 is empty"):
        model(["dog", ""])
    with pytest.raises(ValueError, match=f"the model reads at most {C} .*or pass truncate=True"):
        model("dog " * C)
    assert isinstance(model("dog " * C, truncate=True, **options), str)


def test_tokens_that_do_not_fit_the_config_are_refused(tokenizer):
    with pytest.raises(ValueError, match="The tokenizer's eos_id is 1, the config's 5. Set `eos_id` of the config"):
        make("t5-small", vocabulary_size=tokenizer.vocabulary_size, tokenizer=tokenizer, eos_id=5)
    letters = train_tokenizer("character", ["abc"])  # knows of no end
    size = letters.vocabulary_size
    with pytest.raises(ValueError, match=f"no eos token, and `eos_id`=1 is its token 'a'. Set .* to {size} or"):
        make("t5-small", tokenizer=letters)
    model = make("t5-small", vocabulary_size=size + 1, tokenizer=letters, eos_id=size, pad_id=size,
                 decoder_start_id=size)
    with pytest.warns(UserWarning, match="max_sequence_length"):
        assert set(model("abc", max_new_tokens=64, eos_token_id=())) <= set("abc")


def test_a_tokenizer_without_padding_pads_with_its_end():
    pieces = train_tokenizer("byte-bpe", ["abc abd"], 260)
    assert pieces.pad_id is None
    model = make("transformer-base", vocabulary_size=pieces.vocabulary_size, tokenizer=pieces)
    assert model.config.pad_id == model.config.eos_id == model.config.decoder_start_id == pieces.eos_id
    assert model.reader().generation_defaults["suppress_tokens"] == ()  # else no target could end


# An ordinary Keras model.

def test_it_learns_to_reverse_and_says_so(tmp_path):
    """compile, fit with padding and weights, evaluate, predict, save; then greedy and beams give the targets."""
    keras.utils.set_random_seed(0)
    model = kzoo.create("transformer-tiny", vocabulary_size=12, num_layers=1, num_heads=2, hidden_dim=32,
                        intermediate_dim=64, dropout=0.0, max_sequence_length=8)
    length = rng.integers(1, 5, 512)
    digits = rng.integers(2, 12, (512, 4)).astype("int32")
    source, target = np.zeros((512, 5), "int32"), np.zeros((512, 5), "int32")
    for row, count in enumerate(length):
        source[row, :count + 1] = [*digits[row, :count], 1]
        target[row, :count + 1] = [*digits[row, :count][::-1], 1]
    mask = np.arange(5) <= length[:, None]
    inputs = {"encoder_token_ids": source, "encoder_padding_mask": mask, "decoder_padding_mask": mask,
              "decoder_token_ids": np.concatenate([np.zeros((512, 1), "int32"), target[:, :-1]], axis=1)}
    model.compile(optimizer=keras.optimizers.Adam(0.01), weighted_metrics=["accuracy"],
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                  jit_compile=keras.backend.backend() == "jax")
    history = model.fit(inputs, target, sample_weight=mask, batch_size=64, epochs=40, verbose=0).history
    assert history["accuracy"][-1] > 0.97 > history["accuracy"][0]
    assert model.evaluate(inputs, target, sample_weight=mask, verbose=0)[1] > 0.97
    right = model.predict(inputs, verbose=0).argmax(axis=-1) == target
    assert right[mask].mean() > 0.97
    sources = [row[row > 0].tolist() for row in source[:64]]
    expected = [row[row > 0].tolist() for row in target[:64]]
    for beams in (1, 4):
        found = model.generate(sources, max_new_tokens=6, num_beams=beams)
        assert np.mean([one == other for one, other in zip(found, expected, strict=True)]) > 0.9
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.generate(sources, max_new_tokens=6) == model.generate(sources, max_new_tokens=6)
    kzoo.save(model, tmp_path / "run")
    found = kzoo.load(tmp_path / "run").generate(sources, max_new_tokens=6)
    assert found == model.generate(sources, max_new_tokens=6)


def test_tasks_of_a_family_share_their_weights(model, tmp_path):
    kzoo.save(model, tmp_path / "run")
    other = kzoo.load(tmp_path / "run", task="summarization")
    assert model.task == "translation" and other.task == "summarization" and other.newly_initialized == ()
    for ours, theirs in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))
    with pytest.raises(ValueError, match="cannot serve the task 'text-generation'. It can: translation, summarization"):
        kzoo.load(tmp_path / "run", task="text-generation")

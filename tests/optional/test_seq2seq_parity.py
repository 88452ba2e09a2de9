"""transformers opens the encoder-decoders we save, and we open what it saves. Needs torch and transformers.

    KZOO_PEERS_PYTHON=path/to/python pytest tests/optional/test_seq2seq_parity.py -s
"""
import json
import warnings

import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.backend import compile_function

B, S, T = 3, 13, 11
MARIAN = dict(vocabulary_size=31, hidden_dim=20, intermediate_dim=37, decoder_intermediate_dim=29, num_layers=2,
              num_decoder_layers=3, num_heads=5, num_decoder_heads=4, max_sequence_length=23, pad_id=30,
              decoder_start_id=30, eos_id=7, dropout=0.0)
# The reference cannot generate where T5's decoder has more layers than its encoder.
T5 = dict(vocabulary_size=31, hidden_dim=20, intermediate_dim=37, num_layers=3, num_decoder_layers=2, num_heads=3,
          head_dim=7, num_buckets=8, max_distance=9, eos_id=7, dropout=0.0)
CASES = {
    "marian": ("marian-base", MARIAN),
    "marian relu": ("marian-base", {
        **MARIAN, "activation": "relu", "scale_embedding": False, "num_decoder_layers": None, "num_decoder_heads": None,
        "decoder_intermediate_dim": None}),
    "marian separate": ("marian-base", {**MARIAN, "share_embeddings": False}),
    "marian untied": ("marian-base", {**MARIAN, "tie_output": False, "activation": "gelu_tanh"}),
    "marian without bias": ("marian-base", {**MARIAN, "output_bias": False}),
    "t5 1.0": ("t5-small", T5),
    "t5 1.1": ("t5-v1.1-small", T5),
    "t5 silu": ("t5-v1.1-small", {**T5, "activation": "silu", "num_decoder_layers": None, "num_buckets": 32,
                                  "max_distance": 128, "layer_norm_epsilon": 0.003}),
    "t5 gelu": ("t5-small", {**T5, "activation": "gelu"}),
}
SEARCHES = {
    "greedy": {"num_beams": 1}, "beams": {"num_beams": 4},
    "greedy without repetition": {"num_beams": 1, "no_repeat_ngram_size": 1},
    "beams of a summarizer": {"num_beams": 4, "length_penalty": 2.0, "no_repeat_ngram_size": 2, "early_stopping": True},
}
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def visited(visit, redrawn, tmp_path_factory):
    """case -> (our model, the folder transformers has visited)."""
    root, models = tmp_path_factory.mktemp("hf"), {}
    mask = np.arange(S) < np.array([13, 8, 5])[:, None]
    for case, (preset, sizes) in CASES.items():
        model = redrawn(kzoo.create(preset, **sizes))
        folder = root / case.replace(" ", "-")
        kzoo.save(model, folder, format="hugging_face")
        np.savez(folder / "inputs.npz", encoder_token_ids=rng.integers(1, 30, (B, S)).astype("int32"),
                 decoder_token_ids=rng.integers(1, 30, (B, T)).astype("int32"), encoder_padding_mask=mask)
        (folder / "searches.json").write_text(json.dumps(
            {name: {"max_new_tokens": 9, **options} for name, options in SEARCHES.items()}))
        models[case] = model, folder
    visit("AutoModelForSeq2SeqLM", [folder for _, folder in models.values()])
    return models


def logits(model, inputs):
    return ops.convert_to_numpy(compile_function(model, lambda: model(inputs))())


@pytest.mark.parametrize("case", CASES)
def test_transformers_opens_what_we_save(visited, report, case):
    model, folder = visited[case]
    if case.startswith("marian"):
        found = report(folder, "MarianMTModel")
    else:  # transformers 5 believes the logits of every T5 tied, and says of Google's v1.1, too, that they are not
        found = report(folder, "T5ForConditionalGeneration",
                       usual="" if model.config.tie_embeddings else "specifies to tie shared.weight to lm_head.weight")
    inputs, outputs = dict(np.load(folder / "inputs.npz")), dict(np.load(folder / "outputs.npz"))
    spread = outputs["plain"].std()
    plain = logits(model, {name: inputs[name] for name in ("encoder_token_ids", "decoder_token_ids")})
    errors = [np.abs(found - outputs[name]).max() / spread
              for name, found in (("plain", plain), ("padded", logits(model, inputs)))]
    print(f"\ntransformers {found['transformers']}, {case}: off by {max(errors):.1e} of the logits' spread")
    assert max(errors) < 1e-5
    sources = [row[real].tolist() for row, real in
               zip(inputs["encoder_token_ids"], inputs["encoder_padding_mask"], strict=True)]
    for name, options in SEARCHES.items():
        found = model.generate(sources, max_new_tokens=9, **options)
        for ours, theirs in zip(found, outputs[name].tolist(), strict=True):
            # It fills with the end where the id that pads is 0.
            assert ours == theirs[:len(ours)] and set(theirs[len(ours):]) <= {model.config.pad_id, 7}, name


@pytest.mark.parametrize("case", CASES)
def test_we_open_what_transformers_saves(visited, case):
    """In shards, and with what it moves to generation_config.json."""
    model, folder = visited[case]
    assert (folder / "again" / "model.safetensors.index.json").is_file()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = kzoo.load(folder / "again")
    assert again.config == model.config.replace(**{"output_bias": True} if case.startswith("marian") else {})
    theirs = {weight.path.split("/", 1)[1]: ops.convert_to_numpy(weight) for weight in again.weights}
    for weight in model.weights:
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), theirs[weight.path.split("/", 1)[1]])

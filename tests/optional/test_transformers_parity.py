"""transformers opens what we save, and we open what it saves. Needs torch and transformers, in any interpreter.

    KZOO_PEERS_PYTHON=path/to/python pytest tests/optional/test_transformers_parity.py -s
"""
import numpy as np
import pytest
from keras import ops

import kzoo

B, T = 3, 11
SIZES = dict(vocabulary_size=31, num_layers=3, num_heads=5, hidden_dim=20, max_sequence_length=23, dropout=0.0)
CASES = {
    "plain": {},
    "by layer": {"scale_scores_by_layer": True, "intermediate_dim": 37, "layer_norm_epsilon": 0.003},
    "unscaled": {"scale_scores": False, "activation": "gelu"},
    "without offsets": {"use_bias": False, "activation": "relu"},
    "silu": {"activation": "silu"},
    "tanh": {"activation": "tanh"},
}
rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def visited(visit, redrawn, tmp_path_factory):
    """case -> (our model, the folder transformers has visited)."""
    root, models = tmp_path_factory.mktemp("hf"), {}
    left = np.ones((B, T), bool)
    left[1, :4], left[2, :7] = False, False
    for case, changes in CASES.items():
        model = redrawn(kzoo.create("gpt2-nano", **{**SIZES, **changes}))
        folder = root / case.replace(" ", "-")
        kzoo.save(model, folder, format="hugging_face")
        np.savez(folder / "inputs.npz", token_ids=rng.integers(0, 31, (B, T)).astype("int32"), left_mask=left)
        models[case] = model, folder
    visit("AutoModelForCausalLM", [folder for _, folder in models.values()])
    return models


@pytest.mark.parametrize("case", CASES)
def test_transformers_opens_what_we_save(visited, report, case):
    model, folder = visited[case]
    found = report(folder, "GPT2LMHeadModel")
    inputs, outputs = dict(np.load(folder / "inputs.npz")), dict(np.load(folder / "outputs.npz"))
    plain = ops.convert_to_numpy(model({"token_ids": inputs["token_ids"]}))
    mask = inputs["left_mask"]
    padded = ops.convert_to_numpy(model({"token_ids": inputs["token_ids"], "padding_mask": mask}))[mask]
    spread = outputs["plain"].std()
    errors = [np.abs(plain - outputs["plain"]).max() / spread, np.abs(padded - outputs["padded"][mask]).max() / spread]
    print(f"\ntransformers {found['transformers']}, {case}: off by {max(errors):.1e} of the logits' spread")
    assert max(errors) < 1e-5
    prompts = [row[real].tolist() for row, real in zip(inputs["token_ids"], mask, strict=True)]
    ids = model.generate(prompts, max_new_tokens=7)
    assert [row[-7:] for row in ids] == outputs["greedy"].tolist()


@pytest.mark.parametrize("case", CASES)
def test_we_open_what_transformers_saves(visited, case):
    """In shards, and with the fields of its own."""
    model, folder = visited[case]
    assert (folder / "again" / "model.safetensors.index.json").is_file()
    again = kzoo.load(folder / "again")
    assert again.config == model.config.replace(use_bias=True)  # their class has no room for less
    token_ids = np.load(folder / "inputs.npz")["token_ids"]
    difference = ops.convert_to_numpy(again({"token_ids": token_ids}) - model({"token_ids": token_ids}))
    assert np.abs(difference).max() < (1e-6 if model.config.use_bias else 1e-5)
    if model.config.use_bias:
        for ours, theirs in zip(model.weights, again.weights, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))

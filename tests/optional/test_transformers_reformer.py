"""The same for the Reformer: its four classes, both ways, with the rotations that transformers draws.

    KZOO_PEERS_PYTHON=path/to/python pytest tests/optional/test_transformers_reformer.py -s
"""
import json

import numpy as np
import pytest
import safetensors.numpy
from keras import ops

import kzoo

B, T = 3, 21
SIZES = dict(vocabulary_size=31, num_layers=3, attention_layers=("lsh", "local"), num_heads=3, head_dim=5,
             hidden_dim=14, intermediate_dim=17, max_sequence_length=40, num_hashes=2, num_buckets=(2, 4), hash_seed=5,
             lsh_chunk_length=4, local_chunk_length=6, axial_shape=(5, 8), axial_dims=(5, 9))
TASKS = {  # task -> the Auto class, the class, settings
    "text-generation": ("AutoModelForCausalLM", "ReformerModelWithLMHead", {}),
    "fill-mask": ("AutoModelForMaskedLM", "ReformerForMaskedLM", {}),
    "text-classification": ("AutoModelForSequenceClassification", "ReformerForSequenceClassification",
                            {"labels": ("a", "b", "c")}),
    "question-answering": ("AutoModelForQuestionAnswering", "ReformerForQuestionAnswering", {}),
}


@pytest.fixture(scope="module")
def visited(visit, redrawn, tmp_path_factory):
    """task -> (our model, with transformers' rotations; the folder that it has visited)."""
    root, models, rng = tmp_path_factory.mktemp("hf"), {}, np.random.default_rng(0)
    mask = np.arange(T) < np.array([[T], [17], [9]])
    for task, (name, _, settings) in TASKS.items():
        model = redrawn(kzoo.create("reformer-nano", task=task, **SIZES, **settings))
        folder = root / task
        kzoo.save(model, folder, format="hugging_face")
        np.savez(folder / "inputs.npz", token_ids=rng.integers(1, 31, (B, T)).astype("int32"), padding_mask=mask)
        visit(name, [folder])
        for variable in model.non_trainable_variables:
            if variable.name == "rotations":
                variable.assign(np.load(folder / "outputs.npz")["rotations"])
        models[task] = model, folder
    return models


@pytest.mark.parametrize("task", TASKS)
def test_transformers_opens_what_we_save(visited, report, task):
    model, folder = visited[task]
    found = report(folder, TASKS[task][1])
    inputs, expected = dict(np.load(folder / "inputs.npz")), dict(np.load(folder / "outputs.npz"))
    result, real = model(inputs), inputs["padding_mask"] if task != "text-classification" else slice(None)
    for name, ours in (result if isinstance(result, dict) else {"logits": result}).items():
        theirs = expected[name][real]
        if task in ("text-generation", "fill-mask") and int(found["transformers"].split(".")[0]) >= 5:
            theirs = theirs + ops.convert_to_numpy(model.get_layer("output_layer").bias)  # it loads it, and adds it not
        error = np.abs(ops.convert_to_numpy(ours)[real] - theirs).max() / np.sqrt(np.mean(theirs ** 2))
        print(f"\ntransformers {found['transformers']}, {found['kind']}: off by {error:.1e} of the output's scale")
        # It weighs the rounds of tokens that see but themselves with float32's rounding of -1e5.
        assert error < (5e-3 if task == "text-generation" else 1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_we_open_what_transformers_saves(visited, task):
    model, folder = visited[task]
    again = kzoo.load(folder / "again")
    assert (again.config, again.task, again.newly_initialized) == (model.config, model.task, ())
    for ours, theirs in zip(model.trainable_weights, again.trainable_weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


def test_a_weight_that_is_not_there_is_noticed(visited, visit, tmp_path):
    _, folder = visited["fill-mask"]
    for name in ("config.json", "inputs.npz"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    del arrays["reformer.encoder.layers.0.attention.self_attention.query_key.weight"]
    safetensors.numpy.save_file(arrays, tmp_path / "model.safetensors", {"format": "pt"})
    visit("AutoModelForMaskedLM", [tmp_path])
    assert json.loads((tmp_path / "report.json").read_text())["missing_keys"]

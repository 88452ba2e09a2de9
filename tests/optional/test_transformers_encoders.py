"""The same for encoders: every kind of checkpoint and every task, both ways.

    KZOO_PEERS_PYTHON=path/to/python pytest tests/optional/test_transformers_encoders.py -s
"""
import json

import numpy as np
import pytest
import safetensors.numpy
from keras import ops

import kzoo

B, T = 3, 11
SIZES = dict(vocabulary_size=31, num_layers=3, num_heads=5, hidden_dim=20, intermediate_dim=37, max_sequence_length=23,
             dropout=0.0)
PRESETS = {"bert-tiny": "Bert", "roberta-base": "Roberta", "distilbert-base": "DistilBert",
           "longformer-tiny": "Longformer"}
FIELDS = {"longformer-tiny": {"window_size": (3, 5, 3)}}  # theirs must divide the widest, and not fill up the context
TASKS = {  # task -> the Auto class, the ending of a class there, settings
    "fill-mask": ("AutoModelForMaskedLM", "ForMaskedLM", {}),
    "text-classification": ("AutoModelForSequenceClassification", "ForSequenceClassification",
                            {"labels": ("a", "b", "c")}),
    "token-classification": ("AutoModelForTokenClassification", "ForTokenClassification",
                             {"labels": ("v", "w", "x", "y", "z")}),
    "question-answering": ("AutoModelForQuestionAnswering", "ForQuestionAnswering", {}),
    "feature-extraction": ("AutoModel", "Model", {}),
}
CASES = [(preset, task) for preset in PRESETS for task in TASKS]


@pytest.fixture(scope="module")
def visited(visit, redrawn, tmp_path_factory):
    """(preset, task) -> (our model, the folder transformers has visited)."""
    root, models, rng = tmp_path_factory.mktemp("hf"), {}, np.random.default_rng(0)
    mask = np.arange(T) < np.array([[T], [7], [4]])
    for preset, task in CASES:
        model = redrawn(kzoo.create(preset, task=task, **SIZES, **TASKS[task][2], **FIELDS.get(preset, {})))
        folder = root / f"{preset}-{task}"
        kzoo.save(model, folder, format="hugging_face")
        # Not the id of padding, by which RoBERTa numbers positions.
        inputs = {"token_ids": rng.integers(2, 31, (B, T)).astype("int32"), "padding_mask": mask}
        if preset in FIELDS:  # which wants three separators in a row that holds a question
            inputs["token_ids"] = np.where(np.isin(np.arange(T), (1, 2, 3)), 2, np.maximum(inputs["token_ids"], 3))
        if model.config.num_segments > 1:
            inputs["segment_ids"] = rng.integers(0, 2, (B, T)).astype("int32")
        np.savez(folder / "inputs.npz", **inputs)
        models[preset, task] = model, folder
    for task, (name, _, _) in TASKS.items():
        visit(name, [models[preset, task][1] for preset in PRESETS])
    return models


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_transformers_opens_what_we_save(visited, report, case):
    (preset, task), (model, folder) = case, visited[case]
    found = report(folder, PRESETS[preset] + TASKS[task][1])
    inputs, expected = dict(np.load(folder / "inputs.npz")), dict(np.load(folder / "outputs.npz"))
    result = model(inputs)
    real = inputs["padding_mask"] if task not in ("text-classification", "feature-extraction") else slice(None)
    if task == "feature-extraction":  # theirs are the states, for the caller to pool
        states, weights = expected["last_hidden_state"], inputs["padding_mask"][..., None]
        pairs = [(result, (states * weights).sum(axis=1) / weights.sum(axis=1))]
        if model.pooler is not None:
            first = ops.convert_to_tensor(states[:, 0])
            pairs.append((model.pooler(first), expected["pooler_output"]))
    elif task == "question-answering":
        pairs = [(result[name], expected[name]) for name in ("start_logits", "end_logits")]
    else:
        pairs = [(result, expected["logits"])]
    for ours, theirs in pairs:
        error = np.abs(ops.convert_to_numpy(ours)[real] - theirs[real]).max() / np.sqrt(np.mean(theirs ** 2))
        print(f"\ntransformers {found['transformers']}, {found['kind']}: off by {error:.1e} of the output's scale")
        assert error < 1e-5


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_we_open_what_transformers_saves(visited, case):
    """In shards, and with the fields of its own."""
    model, folder = visited[case]
    assert (folder / "again" / "model.safetensors.index.json").is_file()
    again = kzoo.load(folder / "again")
    assert (again.config.replace(classifier_dropout=None), again.task, again.newly_initialized) == (
        model.config.replace(classifier_dropout=None), model.task, ())
    assert again.settings() == model.settings()
    for ours, theirs in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))


def test_a_weight_that_is_not_there_is_noticed(visit, report, redrawn, tmp_path):
    model = redrawn(kzoo.create("bert-tiny", task="text-classification", labels=("a", "b"), **SIZES))
    kzoo.save(model, tmp_path / "hf", format="hugging_face")
    np.savez(tmp_path / "hf" / "inputs.npz", token_ids=np.full((B, T), 3), padding_mask=np.ones((B, T)))
    path = tmp_path / "hf" / "model.safetensors"
    arrays = safetensors.numpy.load_file(path)
    del arrays["classifier.weight"]
    safetensors.numpy.save_file(arrays, path, {"format": "pt"})
    visit("AutoModelForSequenceClassification", [tmp_path / "hf"])
    found = json.loads((tmp_path / "hf" / "report.json").read_text())
    assert any("classifier.weight" in text for text in found["warnings"]) and found["missing_keys"]
    with pytest.raises(AssertionError):
        report(tmp_path / "hf", "BertForSequenceClassification")

"""transformers' pipelines answer texts as we do, from the folders that we save: tokenizer, labels, offsets and all.

    KZOO_PEERS_PYTHON=path/to/python pytest tests/optional/test_transformers_pipelines.py
"""
import json
import pathlib
import subprocess

import pytest

import kzoo
from kzoo.tokenizers import load_tokenizer

FOLDER = pathlib.Path(__file__).parents[1] / "fixtures" / "tokenizers" / "wordpiece"
CLIENT = pathlib.Path(__file__).with_name("pipeline_client.py")
CONTEXT = "The lighthouse keeper, she counts the ships that pass before the naïve evening comes to Köln."
TEXTS = {
    "text-classification": ["the ships pass", CONTEXT, "a keeper"],
    "token-classification": [CONTEXT, "ship 17, ship 23"],
    "fill-mask": ["The [MASK] keeper.", "[MASK] counts the ships"],
    "question-answering": [{"question": "Who counts?", "context": CONTEXT}],
}
LABELS = {"text-classification": ("a", "b", "c"), "token-classification": ("O", "B-X", "I-X", "B-Y", "I-Y")}


@pytest.fixture(scope="module")
def answered(interpreter, redrawn, tmp_path_factory):
    """task -> (our model, what the pipeline answered)."""
    root, models, tokenizer = tmp_path_factory.mktemp("pipelines"), {}, load_tokenizer(FOLDER)
    for task, texts in TEXTS.items():
        settings = {"labels": LABELS[task]} if task in LABELS else {}
        models[task] = redrawn(kzoo.create(
            "bert-tiny", task=task, tokenizer=tokenizer, vocabulary_size=tokenizer.vocabulary_size, num_heads=5,
            hidden_dim=20, max_sequence_length=64, **settings))
        kzoo.save(models[task], root / task, format="hugging_face")
        (root / task / "texts.json").write_text(json.dumps(texts))
    done = subprocess.run([interpreter, str(CLIENT), *(str(root / task) for task in TEXTS)], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return {task: (model, json.loads((root / task / "answers.json").read_text())) for task, model in models.items()}


def test_classes(answered):
    model, answers = answered["text-classification"]
    for ours, theirs in zip(model(TEXTS["text-classification"]), answers, strict=True):
        assert ours["scores"] == pytest.approx({each["label"]: each["score"] for each in theirs}, rel=1e-4)


def test_entities(answered):
    model, answers = answered["token-classification"]
    for ours, theirs in zip(model(TEXTS["token-classification"]), answers, strict=True):
        assert [(each["label"], each["start"], each["end"]) for each in ours] == [
            (each["entity_group"], each["start"], each["end"]) for each in theirs] != []
        assert [each["score"] for each in ours] == pytest.approx([each["score"] for each in theirs], rel=1e-4)


def test_masks(answered):
    model, answers = answered["fill-mask"]
    for (ours,), theirs in zip(model(TEXTS["fill-mask"]), answers, strict=True):
        assert [each["token"] for each in ours] == [each["token_str"] for each in theirs]
        assert [each["score"] for each in ours] == pytest.approx([each["score"] for each in theirs], rel=1e-4)


def test_spans(answered):
    """The span; its score is of another kind there."""
    model, answers = answered["question-answering"]
    if answers is None:
        pytest.skip("this version of transformers has no such pipeline")
    for ours, theirs in zip(model(TEXTS["question-answering"]), answers, strict=True):
        assert [ours[name] for name in ("answer", "start", "end")] == [theirs[name] for name in
                                                                      ("answer", "start", "end")]

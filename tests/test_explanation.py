"""`explain`: completeness of the attributions, maps of every layer, a page of its own."""
import json
import re
import types

import keras
import numpy as np
import pytest
from keras import ops

import kzoo
from kzoo.tokenizers import train_tokenizer

SIZES = dict(num_layers=2, num_heads=2, hidden_dim=12, intermediate_dim=17, max_sequence_length=24,
             initializer_range=0.4)
TEXT = "the cat sat on the mat and the dog ran"


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("wordpiece", [TEXT] * 9, vocabulary_size=60)


def make(preset, tokenizer, **options):
    keras.utils.set_random_seed(3)
    sizes = {**SIZES, "vocabulary_size": tokenizer.vocabulary_size, **options}
    return kzoo.create(preset, tokenizer=tokenizer,
                       **{name: value for name, value in sizes.items() if value is not None})


@pytest.fixture(scope="module")
def classifier(tokenizer):
    return make("bert-tiny", tokenizer, task="text-classification", labels=("cat", "dog", "mat"),
                pattern={"name": "hierarchical", "segment_size": 4})


@pytest.fixture(scope="module")
def found(classifier):
    return kzoo.explain(classifier, TEXT)


def test_attributions_make_up_the_whole_change(classifier, found):
    logits = ops.convert_to_numpy(classifier({"token_ids": np.array([classifier.tokenizer.encode(TEXT)])}))[0]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert found.answer == ("cat", "dog", "mat")[logits.argmax()]
    assert np.exp(found.score) == pytest.approx(probabilities.max(), rel=1e-4)
    change = found.score - found.baseline_score
    assert found.attribution.sum() == pytest.approx(change, abs=1e-4) and abs(change) > 1e-3
    assert found.gap == pytest.approx(abs(found.attribution.sum() - change), abs=1e-5)
    assert found.attribution[1:].sum() != pytest.approx(change, abs=1e-4)  # every token counts
    assert found.attribution.shape == (len(found.tokens),)


def test_maps_and_rollout_have_rows_that_sum_to_one(found):
    assert found.attention.shape == (2, 2, len(found.tokens), len(found.tokens))
    np.testing.assert_allclose(found.attention.sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(found.rollout.sum(axis=-1), 1, atol=1e-5)
    assert found.tokens[0] == "[CLS]" and found.tokens[2] == "cat" and len(found.layers) == 2


@pytest.mark.parametrize("preset, fields", [
    ("longformer-tiny", {"sep_id": 2}),
    ("reformer-nano", {"causal": False, "axial_dims": (5, 7), "attention_layers": ("local", "lsh"),
                       "lsh_chunk_length": 8, "local_chunk_length": 4})])
def test_what_is_filled_up_is_not_shown(preset, fields, tokenizer):
    """Models that fill up rows by themselves, and global tokens: the maps are those of the text's tokens."""
    model = make(preset, tokenizer, task="text-classification", labels=("a", "b"), **fields)
    found = kzoo.explain(model, TEXT)
    count = len(found.tokens)
    assert found.attention.shape == (2, 2, count, count) and len(found.layers) == 2
    np.testing.assert_allclose(found.attention.sum(axis=-1), 1, atol=1e-5)
    assert found.attribution.sum() == pytest.approx(found.score - found.baseline_score, abs=0.02)
    assert (found.attention[:, :, 0] > 0).all() or preset != "longformer-tiny"  # the global one sees all


def test_another_answer_is_explained_if_asked_for(classifier, found):
    other = next(label for label in classifier.labels if label != found.answer)
    assert kzoo.explain(classifier, TEXT, answer=other).score < found.score
    with pytest.raises(ValueError, match="`answer` must be one of the labels cat, dog, mat. Received: 'cow'"):
        kzoo.explain(classifier, TEXT, answer="cow")


def test_the_next_token_hears_of_the_past_alone(tokenizer):
    model = make("gpt2-nano", tokenizer, pattern={"name": "block_local", "block_size": 2, "look_back": 0})
    found = kzoo.explain(model, TEXT)
    assert found.question == "The next token" and found.position == len(found.tokens) - 1
    assert not np.triu(found.attention, 1).any()
    reached = np.flatnonzero(np.abs(found.attribution) > 1e-7)
    assert reached.min() == len(found.tokens) - 2 == np.flatnonzero(found.rollout[-1] > 0).min()  # its own block


def test_masks_and_tags_are_explained(tokenizer):
    filled = kzoo.explain(make("bert-tiny", tokenizer, task="fill-mask"), "the [MASK] sat")
    assert filled.tokens[filled.position] == "[MASK]"
    with pytest.raises(ValueError, match=r"The text holds no \[MASK\] to fill in"):
        kzoo.explain(make("bert-tiny", tokenizer, task="fill-mask"), "the cat")
    tagger = make("bert-tiny", tokenizer, task="token-classification", labels=("O", "B-animal"))
    tagged = kzoo.explain(tagger, TEXT, position=2)
    assert tagged.question == "The label of 'cat'" and tagged.answer in tagger.labels
    with pytest.raises(ValueError, match="`position` must be at least 0 and below 12. Received: 12"):
        kzoo.explain(tagger, TEXT, position=12)


@pytest.fixture(scope="module")
def pieces():
    return train_tokenizer("byte-bpe", [TEXT] * 9, 280)


REWRITERS = [("transformer-tiny", {}), ("transformer-tiny", {"share_embeddings": False}),
             ("t5-small", {"head_dim": 6, "initializer_range": None}),
             ("led-base-16384", {"max_target_length": 24, "window_size": 3})]


@pytest.mark.parametrize("preset, fields", REWRITERS, ids=lambda value: str(value))
def test_what_is_written_is_explained_by_the_source_and_what_was_written_before(preset, fields, pieces):
    model = make(preset, pieces, task="translation", **{**fields, **dict.fromkeys(
        ("eos_id", "pad_id", "decoder_start_id"), pieces.eos_id)})
    model.reader().generation_defaults = {"eos_token_id": (), "suppress_tokens": ()}  # it shall not end at once
    source = [*pieces.encode(TEXT), pieces.eos_id]
    written = model.generate([source], max_new_tokens=3)[0]
    found = kzoo.explain(model, TEXT, position=2, answer=" dog")
    S, T = len(source), 3
    assert found.question == "Token 2 of the answer" and found.position == S + T - 1 == len(found.tokens) - 1
    assert found.tokens[1] == " cat"
    target = np.array([[pieces.eos_id, *written[:2]]])
    logits = ops.convert_to_numpy(model({"encoder_token_ids": np.array([source]), "decoder_token_ids": target}))[0, -1]
    scores = logits - np.log(np.exp(logits).sum())
    assert found.score == pytest.approx(scores[pieces.encode(" dog")[0]], abs=1e-4)
    assert found.attribution.sum() == pytest.approx(found.score - found.baseline_score, abs=0.02)
    assert np.abs(found.attribution[:S]).max() > 1e-4 and np.abs(found.attribution[S:]).max() > 1e-4
    likeliest = kzoo.explain(model, TEXT, position=2).score
    assert likeliest >= found.score and likeliest == pytest.approx(scores[written[2]], abs=1e-4)

    assert found.attention.shape == (6, 2, S + T, S + T)  # of each side's two layers, the decoder's twice
    np.testing.assert_allclose(found.attention.sum(axis=-1), 1, atol=1e-5)
    for path, layer in zip(found.layers, found.attention, strict=True):
        encodes, crosses = "encoder" in path, "cross" in path
        others = slice(S, None) if encodes else slice(0, S)  # whom the layer has no part of
        np.testing.assert_array_equal(layer[:, others, others], np.tile(np.eye(T if encodes else S), (2, 1, 1)))
        assert not layer[:, :S, S:].any() and bool(layer[:, S:, :S].any()) == crosses
        assert crosses or encodes or not np.triu(layer[:, S:, S:], 1).any()
    assert (found.rollout[S:, :S] > 0).all() and not found.rollout[:S, S:].any()
    with pytest.raises(ValueError, match=f"`position` must be at least 0 and below [0-9]+. Received: {10**6}"):
        kzoo.explain(model, TEXT, position=10**6)


@pytest.mark.parametrize("preset", ["bert-tiny", "longformer-tiny"])
def test_where_an_answer_begins_and_ends_is_explained(preset, tokenizer):
    fields = {"sep_id": tokenizer.sep_id} if preset == "longformer-tiny" else {}
    model = make(preset, tokenizer, task="question-answering", **fields)
    text = {"question": "the dog ran", "context": "the cat sat on the mat"}
    found, answer = kzoo.explain(model, text), model(text, max_answer_tokens=9)
    assert found.question == "The answer" and found.answer == answer["answer"]
    assert found.tokens[:4] == ("[CLS]", "the", "dog", "ran")
    assert found.tokens[found.position] == answer["answer"].split()[0]
    ids = [tokenizer.cls_id, *tokenizer.encode(text["question"], add_special_tokens=False), tokenizer.sep_id,
           *tokenizer.encode(text["context"], add_special_tokens=False), tokenizer.sep_id]
    inputs = {"token_ids": np.array([ids])}
    if preset == "bert-tiny":
        inputs["segment_ids"] = np.array([[0] * 5 + [1] * (len(ids) - 5)])
    first, last = found.position, found.position + len(answer["answer"].split()) - 1
    expected = sum(float(ops.log_softmax(logits)[0, place]) for logits, place in
                   zip((model(inputs)[f"{end}_logits"] for end in ("start", "end")), (first, last), strict=True))
    assert found.score == pytest.approx(expected, abs=1e-4)
    assert found.attribution.sum() == pytest.approx(found.score - found.baseline_score, abs=0.03)
    assert np.abs(found.attribution[1:4]).max() > 1e-4  # the question counts
    with pytest.raises(TypeError, match="`text` of question-answering is a dict"):
        kzoo.explain(model, TEXT)
    with pytest.raises(ValueError, match="leave `position` and `answer` out"):
        kzoo.explain(model, text, answer="cat")
    with pytest.raises(ValueError, match="`context` is too long for it. Received: 40 tokens"):
        kzoo.explain(model, {"question": "the", "context": "cat " * 40})


def test_what_cannot_be_explained_is_refused(classifier):
    with pytest.raises(ValueError, match="reads models of the tasks text-generation.*task is 'feature-extraction'"):
        kzoo.explain(types.SimpleNamespace(task="feature-extraction"), "x")
    with pytest.raises(ValueError, match="has 62 tokens, special ones included; the model reads 24"):
        kzoo.explain(classifier, "the cat " * 30)
    with pytest.raises(ValueError, match="`position` is for token-classification, translation, summarization"):
        kzoo.explain(classifier, TEXT, position=1)


def test_the_page_holds_all_it_shows(found, tmp_path):
    found.save_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=|https?://|@import", text)  # no network
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    assert data["tokens"] == list(found.tokens)
    np.testing.assert_allclose(data["attention"], found.attention, atol=1e-4)
    np.testing.assert_allclose(data["attribution"], found.attribution, atol=1e-4)
    for path in found.layers:
        assert f">{path}</option>" in text

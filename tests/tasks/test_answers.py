"""What each task answers to text, with stand-ins for the model whose outputs are known."""
import itertools
import pathlib

import numpy as np
import pytest

from kzoo.tasks.answering import TextModel
from kzoo.tasks.answers import ANSWERS, answer, best_span
from kzoo.tasks.windows import QuestionWindow
from kzoo.tokenizers import load_tokenizer, train_tokenizer

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures" / "tokenizers"
WORDPIECE = load_tokenizer(FIXTURES / "wordpiece")
V = WORDPIECE.vocabulary_size
rng = np.random.default_rng(0)
TABLE = rng.normal(0, 2, (V + 7, 5))  # token -> 5 numbers; rows beyond the vocabulary, as padded embeddings have


def model(outputs, max_sequence_length=64, tokenizer=WORDPIECE, **settings):
    """A model whose outputs are a function of the inputs' token ids and mask."""
    def run(inputs):
        return {name: array.astype("float32") for name, array in
                outputs(inputs["token_ids"], inputs["padding_mask"]).items()}

    return TextModel(run, tokenizer, max_sequence_length, 2, settings)


def probabilities(logits):
    weights = np.exp(np.asarray(logits, "float64"))
    return weights / weights.sum(axis=-1, keepdims=True)


# All tasks.

def test_a_task_without_answers_is_refused():
    with pytest.raises(ValueError, match="The task 'chess' has no answers to text here; it has: text-classification"):
        answer("chess", model(None), "text")


@pytest.mark.parametrize("task", ANSWERS)
def test_options_that_do_not_exist_are_refused(task):
    with pytest.raises(TypeError, match=f"Unknown option of '{task}' 'batchsize'. Did you mean 'batch_size'?"):
        answer(task, model(None), "text", batchsize=3)
    with pytest.raises(ValueError, match="Text needs a tokenizer"):
        answer(task, model(None, tokenizer=None), "text")


# Text classification.

CLASSIFIER = model(lambda ids, mask: {"logits": (TABLE[ids, 2:] * mask[..., None]).sum(axis=1)},
                   labels=("bad", "good", "ugly"))
TEXTS = ["the ships pass", "a keeper", "the light of the lighthouse keeps the ships, and every ship is counted"]


def test_classes_have_probabilities():
    for text in TEXTS:
        expected = probabilities(TABLE[WORDPIECE.encode(text), 2:].sum(axis=0))
        found = answer("text-classification", CLASSIFIER, text)
        assert list(found["scores"]) == ["bad", "good", "ugly"]
        np.testing.assert_allclose(list(found["scores"].values()), expected, rtol=1e-4)
        assert found["label"] == ("bad", "good", "ugly")[expected.argmax()]
        assert found["score"] == found["scores"][found["label"]] == max(found["scores"].values())


def test_a_list_is_answered_by_a_list_in_order():
    alone = [answer("text-classification", CLASSIFIER, text) for text in TEXTS]
    assert len({each["label"] for each in alone}) > 1
    together = answer("text-classification", CLASSIFIER, TEXTS, batch_size=2)
    for one, other in zip(alone, together, strict=True):
        assert one["label"] == other["label"] and one["score"] == pytest.approx(other["score"], rel=1e-5)
    assert answer("text-classification", CLASSIFIER, []) == []


@pytest.mark.parametrize("task, text", [("text-classification", "ship " * 99), ("feature-extraction", "ship " * 99),
                                        ("fill-mask", "[MASK]" + "ship " * 99)])
def test_long_texts_are_cut_only_when_asked(task, text):
    def outputs(ids, mask):
        return {"logits": TABLE[ids], "features": np.full((len(ids), 2), ids.shape[1])}

    short = model(outputs, max_sequence_length=16, labels=("a", "b", "c"))
    if task == "text-classification":
        short = CLASSIFIER._replace(max_sequence_length=16)
    with pytest.raises(ValueError, match="Text 0 has .* tokens, special ones included; the model reads 16. Pass trunc"):
        answer(task, short, text)
    assert len(answer(task, short, [text], truncate=True)) == 1


# Token classification.

TAGS = ("O", "B-SHIP", "I-SHIP", "B-HOUSE", "I-HOUSE")


def by_token(spelled, labels=TAGS):
    """Logits that give each token, as the vocabulary spells it, its label."""
    table = np.zeros((V, len(labels)))
    table[:, labels.index("O") if "O" in labels else 0] = 2
    for token, label in spelled.items():
        table[WORDPIECE.token_to_id(token)] = 4 * np.eye(len(labels))[labels.index(label)]
    return model(lambda ids, mask: {"logits": table[ids]}, labels=labels)


def test_entities_have_characters():
    tagger = by_token({"ships": "B-SHIP", "light": "B-HOUSE", "keeper": "I-HOUSE"})
    text = "The light  keeper counts: ships, SHIPS."
    found = answer("token-classification", tagger, text)
    assert [(each["label"], each["text"]) for each in found] == [
        ("HOUSE", "light  keeper"), ("SHIP", "ships"), ("SHIP", "SHIPS")]
    for each in found:
        assert text[each["start"]:each["end"]] == each["text"]
        assert each["score"] == pytest.approx(np.exp(4) / (np.exp(4) + 4), rel=1e-6)
    assert answer("token-classification", tagger, [text, "", "The"]) == [found, [], []]


def test_a_word_has_the_label_of_its_first_piece():
    pieces = [WORDPIECE.id_to_token(index) for index in WORDPIECE.encode("shiped", add_special_tokens=False)]
    assert len(pieces) > 1
    tagger = by_token({pieces[0]: "B-SHIP", pieces[1]: "B-HOUSE"})
    found, = answer("token-classification", tagger, "shiped")
    assert (found["label"], found["text"]) == ("SHIP", "shiped")


def test_plain_labels_are_given_word_by_word():
    tagger = by_token({"the": "article", "ships": "noun"}, labels=("other", "article", "noun"))
    found = answer("token-classification", tagger, "The ships pass")
    assert [(each["label"], each["text"]) for each in found] == [("article", "The"), ("noun", "ships"),
                                                                 ("other", "pass")]


def test_words_can_be_what_blanks_part():
    tagger = by_token({"ships": "B-SHIP", "light": "I-SHIP"})
    found = answer("token-classification", tagger, "(ships, ships, light", pretokenized=True)
    assert [(each["label"], each["text"]) for each in found] == [("O", "(ships,"), ("B-SHIP", "ships,"),
                                                                 ("I-SHIP", "light")]
    assert [each["text"] for each in answer("token-classification", tagger, "(ships, ships, light")] == [
        "ships", "ships", "light"]  # the comma ends the span


def test_a_long_text_is_tagged_as_a_short_one():
    """In windows; a token's logits depend on its place in the window, so the window that was chosen shows."""
    def outputs(ids, mask):
        left = np.cumsum(mask, axis=1) - 1
        middle = np.minimum(left, mask.sum(axis=1, keepdims=True) - 1 - left)  # tokens to the nearer edge
        return {"logits": np.stack([middle, np.zeros_like(middle)], axis=-1) / 2}

    tagger = model(outputs, max_sequence_length=16, labels=("yes", "no"))
    text = "a b c d e f g h i k l m n o p " * 3
    found = answer("token-classification", tagger, text, overlap=12)
    assert [each["text"] for each in found] == text.split()
    # Far from the text's own ends every token was read at least six tokens from an edge of its window.
    sure = probabilities([[6 / 2, 0]])[0, 0]
    assert all(each["score"] >= sure - 1e-6 for each in found[6:-6])
    assert min(each["score"] for each in answer("token-classification", tagger, text, overlap=0)[6:-6]) < sure


# Masked language modelling.

def test_masks_are_filled_with_the_likeliest_tokens():
    best = WORDPIECE.encode("ships keeper light", add_special_tokens=False)

    def outputs(ids, mask):
        logits = np.zeros((*ids.shape, V + 7))
        logits[..., best] = [3, 2, 1]
        logits[..., V:] = 9  # rows of the embedding that are no tokens
        logits[:, 5:, best[1]] = 4
        return {"logits": logits}

    text = "The [MASK] pass the [MASK]."
    found = answer("fill-mask", model(outputs), text, top_k=2)
    assert [[each["token"] for each in mask] for mask in found] == [["ships", "keeper"], ["keeper", "ships"]]
    assert found[0][0]["text"] == "The ships pass the [MASK]." and found[1][0]["text"] == "The [MASK] pass the keeper."
    expected = probabilities([3, 2, 1] + [0] * (V - 3) + [9] * 7)
    assert [each["score"] for each in found[0]] == pytest.approx(expected[:2].tolist(), rel=1e-5)
    assert answer("fill-mask", model(outputs), [text, "[MASK] keeper"], top_k=2)[0] == found
    assert len(answer("fill-mask", model(outputs), text, top_k=V + 99)[0]) == V


def test_a_piece_goes_on_with_the_word_before():
    def outputs(ids, mask):
        logits = np.zeros((*ids.shape, V))
        logits[..., WORDPIECE.token_to_id("##es")] = 1
        return {"logits": logits}

    (found,), = answer("fill-mask", model(outputs), "The box [MASK] pass", top_k=1)
    assert (found["token"], found["text"]) == ("##es", "The boxes pass")


def test_other_tokenizers_write_no_space_twice():
    tokenizer = load_tokenizer(FIXTURES / "byte-bpe")
    mask = tokenizer.vocabulary_size - 1  # <|endoftext|> stands in for a mask token
    tokenizer.roles["mask"] = tokenizer.id_to_token(mask)
    word = tokenizer.encode(" the", add_special_tokens=False)[0]

    def outputs(ids, mask):
        logits = np.zeros((*ids.shape, tokenizer.vocabulary_size))
        logits[..., word] = 1
        return {"logits": logits}

    (found,), = answer("fill-mask", model(outputs, tokenizer=tokenizer), f"of {tokenizer.roles['mask']} ships", top_k=1)
    assert (found["token"], found["text"]) == ("the", "of the ships")


@pytest.mark.parametrize("text, options, error, words", [
    ("The ships", {}, ValueError, "Text 0 holds no .MASK. to fill in. Received: 'The ships'"),
    ("a " * 20 + "[MASK]", {"truncate": True}, ValueError, "holds no .MASK. to fill in where the model reads it"),
    ("[MASK]", {"top_k": 0}, ValueError, "`top_k` must be at least 1. Received: 0"),
])
def test_what_cannot_be_filled_is_refused(text, options, error, words):
    with pytest.raises(error, match=words):
        answer("fill-mask", model(lambda ids, mask: {"logits": TABLE[ids]}, max_sequence_length=16), text, **options)


def test_a_tokenizer_without_a_mask_is_refused():
    plain = model(None, tokenizer=train_tokenizer("character", ["abc"]))
    with pytest.raises(ValueError, match="The tokenizer has no mask token"):
        answer("fill-mask", plain, "abc")


# Question answering.

def reader(start, end, max_sequence_length=64):
    """Logits that are high at the tokens spelled `start` and `end`."""
    first, last = (WORDPIECE.token_to_id(token) for token in (start, end))
    return model(lambda ids, mask: {"start_logits": 8.0 * (ids == first), "end_logits": 8.0 * (ids == last)},
                 max_sequence_length)


CONTEXT = "The lighthouse keeper counts the ships that pass before the evening comes."


def test_an_answer_has_characters():
    found = answer("question-answering", reader("keeper", "ships"), question="Who?", context=CONTEXT)
    assert found["answer"] == "keeper counts the ships"
    assert CONTEXT[found["start"]:found["end"]] == found["answer"] and 0.9 < found["score"] <= 1
    question = {"question": "Who?", "context": CONTEXT}
    assert answer("question-answering", reader("keeper", "ships"), question) == found
    assert answer("question-answering", reader("keeper", "ships"), [question] * 2) == [found] * 2


def test_a_span_over_the_question_does_not_count():
    found = answer("question-answering", reader("keeper", "ships"), question="keeper ships?",
                   context="The light is old, and the keeper of ships counts.")
    assert found["answer"] == "keeper of ships" and found["start"] == 26


def test_the_longest_answer_is_bounded():
    found = answer("question-answering", reader("keeper", "evening"), question="Who?", context=CONTEXT,
                   max_answer_tokens=3)
    assert found["answer"] != "keeper counts the ships that pass before the evening"
    assert len(WORDPIECE.encode(found["answer"], add_special_tokens=False)) <= 3


@pytest.mark.parametrize("place", [0, 3, 20, 40, 44])
def test_an_answer_is_found_wherever_it_stands(place):
    """In a context of many windows; the words around it do not matter."""
    words = ["a"] * 45
    words[place:place + 2] = ["light", "keeper"]
    context = " ".join(words)
    found = answer("question-answering", reader("light", "keeper", max_sequence_length=16), question="who?",
                   context=context)
    assert found["answer"] == "light keeper" and found["start"] == 2 * place
    assert 0.9 < found["score"] <= 1


def test_the_best_span_agrees_with_trying_all():
    length, longest = 17, 4
    starts, ends = rng.normal(0, 1, length), rng.normal(0, 1, length)
    scores = {(i, j): starts[i] + ends[j] for i, j in itertools.product(range(length), repeat=2)
              if 0 <= j - i < longest}
    best = max(scores, key=scores.get)
    total = sum(np.exp(score) for score in scores.values())

    def windows(*ranges, shift=0.0):
        # Two tokens of question before, one after. Logits outside of the context are high and must not matter.
        found = [QuestionWindow([], [], 2, start, stop) for start, stop in ranges]
        rows = [{name: np.concatenate([[99, 99], values[start:stop] + shift, [99]])
                 for name, values in (("start_logits", starts), ("end_logits", ends))} for start, stop in ranges]
        return best_span(found, rows, length, longest)

    first, last, score = windows((0, length))
    assert (first, last) == best and score == pytest.approx(np.exp(scores[best]) / total)
    # In windows that overlap by twice the longest span, the same spans count, each once; in narrower ones some do not.
    assert windows((0, 10), (3, 14), (7, 17)) == (*best, pytest.approx(score))
    assert windows((0, 7), (6, 13), (12, 17))[2] != pytest.approx(score)
    assert best_span([QuestionWindow([], [], 0, 0, length)], [{"start_logits": starts, "end_logits": ends}],
                     length, 1)[:2] != best


@pytest.mark.parametrize("inputs, options, error, words", [
    ((), {"question": "who?"}, TypeError, "A question is a dict with the texts `question` and `context`"),
    (({"question": "who?"},), {}, TypeError, "A question is a dict with the texts"),
    (("who?",), {}, TypeError, "A question is a dict with `question` and `context`. Received: 'who"),
    ((["who?"],), {}, TypeError, "A question is a dict with the texts `question` and `context`. Received: 'who"),
    (({"question": "who?", "context": "he"},), {"context": "he"}, TypeError, "Pass either a dict with"),
    (({"question": "who?", "context": " "},), {}, ValueError, "Question 0: its context holds no text"),
    (({"question": "a " * 61, "context": "he"},), {}, ValueError, "Question 0: a question of 61 tokens leaves no room"),
    (({"question": "a", "context": "he"},), {"overlap": 99}, ValueError, "Question 0: `overlap` must be a whole"),
    (({"question": "a", "context": "he"},), {"max_answer_tokens": 0}, ValueError, "`max_answer_tokens` must be at"),
])
def test_questions_that_do_not_fit_are_refused(inputs, options, error, words):
    with pytest.raises(error, match=words):
        answer("question-answering", reader("the", "the"), *inputs, **options)


# Feature extraction.

def test_features_are_a_vector_a_text():
    extractor = model(lambda ids, mask: {"features": (TABLE[ids] * mask[..., None]).sum(axis=1)})
    found = answer("feature-extraction", extractor, TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(vector, TABLE[WORDPIECE.encode(text)].sum(axis=0), rtol=1e-4)
    assert found[0].dtype == np.float32 and answer("feature-extraction", extractor, TEXTS[0]).shape == (5,)

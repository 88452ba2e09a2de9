"""Models measured by their answers: every row once, in the file's order, whatever the batch."""
import json
import types

import numpy as np
import pytest

from kzoo.evaluation import TASKS, evaluate, evaluate_predictions, options_of
from kzoo.evaluation.answering import answer, word_tags
from kzoo.registry import TASKS as ALL_TASKS


class Model:
    """Answers as a task's model does; remembers how it was asked."""

    def __init__(self, task, reply, labels=()):
        self.task, self.reply, self.labels = task, reply, labels
        self.tokenizer = types.SimpleNamespace()
        self.batches, self.options = [], []

    def __call__(self, inputs, **options):
        self.batches.append(inputs)
        self.options.append(options)
        return [self.reply(each) for each in inputs]


@pytest.fixture
def write(tmp_path):
    def put(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path
    return put


LABELS = "good film\tpos\nvery bad film\tneg\nfine\tpos\nawful and bad\tneg\nbad, not\tpos\n"


def sentiment(text):
    label = "neg" if "bad" in text else "pos"
    return {"label": label, "score": 0.9, "scores": {}}


def test_labels(write):
    model = Model("text-classification", sentiment, ("neg", "pos"))
    found = evaluate(model, write("data.tsv", LABELS), batch_size=2)
    assert found["accuracy"] == pytest.approx(4 / 5) and found["texts"] == 5
    assert [len(batch) for batch in model.batches] == [2, 2, 1]
    assert model.options[0] == {"truncate": False}
    assert evaluate(model, write("data.tsv", LABELS), tail=0.4)["accuracy"] == pytest.approx(1 / 2)


def test_answers_come_back_in_order():
    model = Model("text-classification", str.upper)
    texts = ["ccc", "a", "dddd", "bb", "e"]
    assert answer(model, texts, 2) == ["CCC", "A", "DDDD", "BB", "E"]
    assert model.batches == [["dddd", "ccc"], ["bb", "a"], ["e"]]  # the longest first
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        answer(model, texts, 0)


@pytest.mark.parametrize("task, name, text", [
    ("text-classification", "data.tsv", LABELS.replace("neg", "mixed", 1)),
    ("token-classification", "data.txt", "Anna B-PER\n\nsaw O\nmixed mixed\n"),
])
def test_a_label_that_the_model_does_not_have_is_named_with_its_line(write, task, name, text):
    model = Model(task, sentiment, ("neg", "pos", "O", "B-PER", "I-PER"))
    with pytest.raises(ValueError, match=rf"{name}, line \d: 'mixed' is none of the labels .* 'neg', 'pos', 'O'"):
        evaluate(model, write(name, text))
    assert model.batches == []


TAGGED = "Anna B-PER\nMaria I-PER\nlives O\nin O\nUlm B-LOC\n\nUlm B-LOC\nsleeps O\n"


def tags_by_word(text):
    known, found, start = {"Anna": "B-PER", "Maria": "I-PER", "Ulm": "B-LOC"}, [], 0
    for word in text.split(" "):
        found.append({"label": known.get(word, "O"), "start": start, "end": start + len(word)})
        start += len(word) + 1
    return found


def test_tags(write):
    model = Model("token-classification", tags_by_word, ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))
    found = evaluate(model, write("data.txt", TAGGED))
    assert found["f1"] == found["accuracy"] == 1 and found["words"] == 7
    assert sorted(model.batches[0]) == ["Anna Maria lives in Ulm", "Ulm sleeps"]
    assert model.options == [{"pretokenized": True}]
    blind = Model("token-classification", lambda text: tags_by_word(text)[:2], model.labels)
    found = evaluate(blind, write("data.txt", TAGGED))
    assert (found["precision"], found["recall"]) == (1, pytest.approx(2 / 3))


def test_words_without_tokens_have_no_tag():
    found = [{"label": "X", "start": 0}, {"label": "Y", "start": 5}]
    assert word_tags(["a", "bc", "d"], found) == ["X", "O", "Y"]


def test_answers_to_questions(write):
    paragraph = {"context": "Ulm lies on the Danube.", "qas": [
        {"id": "1", "question": "Where?", "answers": [{"text": "on the Danube", "answer_start": 9}]},
        {"id": "2", "question": "What?", "answers": [{"text": "Ulm", "answer_start": 0}]}]}
    model = Model("question-answering", lambda row: {"answer": "Ulm" if row["question"] == "What?" else "Danube"})
    found = evaluate(model, write("data.json", json.dumps({"data": [{"paragraphs": [paragraph]}]})))
    assert found == {"exact_match": 50, "f1": pytest.approx(100 * (1 + 2 / 3) / 2), "questions": 2, "unanswered": 0}
    assert model.batches[0][0] == {"question": "Where?", "context": "Ulm lies on the Danube."}


def test_translations_are_generated_as_asked(write):
    model = Model("translation", str.upper)
    data = write("de.tsv", "ein haus\tEIN HAUS\nzwei h@@ unde\tZWEI HUNDE\n")
    found = evaluate(model, data, num_beams=3, bpe_marks=True)
    assert found["exact_match"] == 100 and found["texts"] == 2
    assert model.options == [{"truncate": False, "num_beams": 3}]
    assert evaluate(model, data)["exact_match"] == 50


def test_parallel_texts_of_different_length_are_refused(write):
    with pytest.raises(ValueError, match="a.de has 2 lines and .*a.en has 1"):
        evaluate(Model("translation", str.upper), [write("a.de", "ein\nzwei\n"), write("a.en", "one\n")])


def test_summaries(write):
    rows = [{"source": "a b c d e", "target": ["x", "a b c"]}, {"source": "f g h", "target": ["f h"]}]
    model = Model("summarization", lambda text: text[:5])
    found = evaluate(model, write("data.jsonl", "\n".join(map(json.dumps, rows))))
    assert found == {"rouge1": pytest.approx((1 + 4 / 5) / 2), "rouge2": pytest.approx(1 / 2),
                     "rougeL": pytest.approx((1 + 4 / 5) / 2), "texts": 2}


def test_features_are_measured_by_the_nearest_other_text(write):
    angles = {"good film": 0.0, "fine": 0.3, "very bad film": 1.5, "awful and bad": 1.4, "bad, not": 1.0}
    model = Model("feature-extraction", lambda text: np.array([np.cos(angles[text]), np.sin(angles[text])], "float32"))
    found = evaluate(model, write("data.tsv", LABELS))
    assert found["accuracy"] == pytest.approx(4 / 5)  # the nearest of "bad, not" is negative
    with pytest.raises(ValueError, match="is the only row"):
        evaluate(model, write("data.tsv", "fine\tpos\n"))


def test_every_task_is_measured_and_names_its_options():
    assert set(TASKS) == set(ALL_TASKS)
    assert {"tail", "columns", "truncate"} <= set(options_of("text-classification"))
    assert {"num_beams", "bpe_marks", "max_new_tokens"} <= set(options_of("translation"))
    assert "num_beams" not in options_of("question-answering")


def test_an_option_of_another_task_is_refused(write):
    model = Model("text-classification", sentiment, ("neg", "pos"))
    with pytest.raises(ValueError, match="Unknown option of the task 'text-classification' 'num_beams'"):
        evaluate(model, write("data.tsv", LABELS), num_beams=2)


@pytest.mark.parametrize("task, name, data, stored, key, value", [
    ("text-classification", "a.tsv", LABELS, "pos\nneg\npos\nneg\nneg\n", "accuracy", 4 / 5),
    ("translation", "a.tsv", "ein\tone\nzwei\ttwo\n", "one\nzwei\n", "exact_match", 50),
    ("summarization", "a.tsv", "long\tshort one\n", "short\n", "rouge1", 2 / 3),
])
def test_stored_predictions_of_other_tasks(write, task, name, data, stored, key, value):
    assert evaluate_predictions(write("stored.txt", stored), write(name, data), task)[key] == pytest.approx(value)


def test_stored_predictions_must_fit(write):
    data, stored = write("a.tsv", LABELS), write("stored.txt", "pos\n")
    with pytest.raises(ValueError, match="stored.txt has 1 lines and the data 5 rows"):
        evaluate_predictions(stored, data, "text-classification")
    with pytest.raises(ValueError, match="Unknown task of stored predictions 'fill-mask'"):
        evaluate_predictions(stored, data, "fill-mask")
    with pytest.raises(ValueError, match="`bpe_marks` is for translations"):
        evaluate_predictions(stored, data, "summarization", bpe_marks=True)

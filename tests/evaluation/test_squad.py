"""SQuAD's exact match and F1: the rules, and the published scores of stored predictions."""
import gzip
import json
import re
import warnings

import pytest

from kzoo.evaluation import evaluate_predictions
from kzoo.evaluation.squad import answer_scores, normalized, word_f1


@pytest.mark.parametrize("text, expected", [
    ("The  Broncos!", "broncos"), ("an A-team, a theatre", "ateam theatre"), ("U.S.", "us"),
    ("Ünder the sea", "ünder sea"), ("the", ""),
])
def test_case_punctuation_articles_and_blanks_do_not_count(text, expected):
    assert normalized(text) == expected


def test_f1_agrees_with_the_words_counted():
    # In common: "big" once and "cat"; 2 of 3 words predicted, 2 of 4 expected.
    assert word_f1("the big black cat sat", "big big cat") == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert word_f1("cat", "dog") == 0 and word_f1("a cat", "the cat") == 1


def test_the_best_of_several_right_answers_counts():
    scores = answer_scores([["gold", "the gold coin"], ["1995"], ["two"]], ["Gold coin.", "in 1995", None])
    assert scores == {"exact_match": pytest.approx(100 / 3), "f1": pytest.approx(100 * (1 + 2 / 3) / 3),
                      "questions": 3, "unanswered": 1}


@pytest.fixture
def data(tmp_path):
    questions = [{"id": name, "question": "?", "answers": [{"text": text, "answer_start": 0}]}
                 for name, text in (("q1", "Denver"), ("q2", "gold"))]
    path = tmp_path / "dev.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "Denver won gold", "qas": questions}]}]}))
    return path


def test_predictions_are_matched_by_their_id(data, tmp_path):
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps({"q2": "Gold", "q1": "Denver Broncos"}))
    assert evaluate_predictions(path, data) == {"exact_match": 50, "f1": pytest.approx(100 * (1 + 2 / 3) / 2),
                                                "questions": 2, "unanswered": 0}
    path.write_text(json.dumps({"q2": "Gold"}))
    with pytest.warns(UserWarning, match="1 of 2 questions have no prediction"):
        assert evaluate_predictions(path, data)["exact_match"] == 50


@pytest.mark.parametrize("text, words", [
    ("{", "is not valid JSON"), ('["gold"]', "must map the ids of questions to answers"),
    ('{"q1": 3}', "must map the ids of questions to answers"), ('{"q7": "gold"}', "holds none of the 2 questions"),
])
def test_predictions_that_do_not_fit_are_refused(data, tmp_path, text, words):
    path = tmp_path / "predictions.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        evaluate_predictions(path, data)


@pytest.mark.parametrize("name, exact_match, f1", [
    ("BERT-ensemble", 86.21, 92.20), ("logistic-regression", 40.14, 50.98),
])
def test_published_scores_are_reproduced(shared, name, exact_match, f1):
    folder = shared / "data" / "squad-v1.1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one of the two left out 13 questions
        scores = evaluate_predictions(folder / f"predictions-dev-{name}.json.gz",
                                      folder / "dev-v1.1.reconstructed.json.gz")
    assert scores["questions"] == 10570
    assert scores["exact_match"] == pytest.approx(exact_match, abs=0.005)
    assert scores["f1"] == pytest.approx(f1, abs=0.005)


def test_a_rule_left_out_changes_the_published_score(shared, monkeypatch):
    folder = shared / "data" / "squad-v1.1"
    with gzip.open(folder / "predictions-dev-BERT-ensemble.json.gz") as file:
        predicted = json.load(file)
    with gzip.open(folder / "dev-v1.1.reconstructed.json.gz") as file:
        questions = [question for article in json.load(file)["data"] for paragraph in article["paragraphs"]
                     for question in paragraph["qas"]]
    monkeypatch.setattr("kzoo.evaluation.squad.ARTICLES", re.compile("$^"))
    scores = answer_scores([[each["text"] for each in question["answers"]] for question in questions],
                           [predicted[question["id"]] for question in questions])
    assert abs(scores["exact_match"] - 86.21) > 0.1

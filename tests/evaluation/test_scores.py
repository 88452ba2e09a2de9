"""The scores of the libraries, against their definitions written out."""
import math
import random
import sys

import pytest

from kzoo.evaluation.scores import (
    join_pieces,
    label_scores,
    library,
    spans,
    summary_scores,
    tag_scores,
    translation_scores,
)
from kzoo.tasks.entities import merge

EXPECTED = ["a", "a", "a", "b", "b", "c", "c"]
PREDICTED = ["a", "a", "b", "b", "c", "c", "a"]


def test_labels_agree_with_the_definitions():
    f1 = []
    for label in "abc":
        right = sum(one == label == other for one, other in zip(EXPECTED, PREDICTED, strict=True))
        f1.append(2 * right / (EXPECTED.count(label) + PREDICTED.count(label)))
    counts = [(EXPECTED.count(label), PREDICTED.count(label)) for label in "abc"]
    covariance = 4 * 7 - sum(one * other for one, other in counts)
    spread = math.sqrt((49 - sum(one**2 for one, _ in counts)) * (49 - sum(other**2 for _, other in counts)))
    assert label_scores(EXPECTED, PREDICTED) == {
        "accuracy": pytest.approx(4 / 7), "macro_f1": pytest.approx(sum(f1) / 3),
        "matthews": pytest.approx(covariance / spread), "texts": 7}
    assert label_scores(EXPECTED, EXPECTED[::-1])["accuracy"] != pytest.approx(4 / 7)


def test_spans_count_as_wholes():
    expected = [["B-X", "I-X", "O", "B-Y"], ["O", "B-X"]]
    predicted = [["B-X", "O", "O", "B-Y"], ["B-X", "B-X"]]  # one too short, one right, one too many, one right
    assert tag_scores(expected, predicted) == {
        "precision": pytest.approx(2 / 4), "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 * 2 / (4 + 3)), "accuracy": pytest.approx(4 / 6), "words": 6}
    assert tag_scores(expected, expected)["f1"] == 1
    assert tag_scores(expected, [["O"] * 4, ["O"] * 2])["f1"] == 0


@pytest.mark.parametrize("last, only", ["ES", "LU"])
def test_schemes_that_mark_the_last_word_name_spans(last, only):
    expected = [[f"{only}-X", f"{only}-X", "O", "B-Y", "I-Y", f"{last}-Y"]]
    predicted = [[f"{only}-X", f"{only}-X", "O", "B-Y", f"{last}-Y", "O"]]  # two right, one too short
    scores = tag_scores(expected, predicted)
    assert [scores[name] for name in ("precision", "recall", "f1")] == [pytest.approx(2 / 3)] * 3
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert tag_scores(expected, expected)["f1"] == 1


@pytest.mark.parametrize("letters", ["BIIB", "BIES", "BILU"])  # first, inner, last and only word of a span
def test_what_is_scored_are_the_entities_that_answers_name(letters):
    draws, tags, spans_of = random.Random(0), [], []
    for _ in range(200):
        kind, size = draws.choice("XYO"), draws.randint(1, 4)
        if kind == "O":
            tags.append("O")
            continue
        spans_of.append((kind, len(tags), len(tags) + size - 1))
        parts = letters[3] if size == 1 else letters[0] + letters[1] * (size - 2) + letters[2]
        tags += [f"{letter}-{kind}" for letter in parts]

    def named(tags):
        found = merge("a " * len(tags), [(tag, 1.0, 2 * place, 2 * place + 1) for place, tag in enumerate(tags)], tags)
        return [(each["label"], each["start"] // 2, each["end"] // 2) for each in found]

    assert named(tags) == spans_of != named([tag.replace("B-", "I-") for tag in tags])
    scores = tag_scores([tags], [["O"] * spans_of[100][1] + tags[spans_of[100][1]:]])
    assert scores["recall"] == pytest.approx(1 - 100 / len(spans_of)) and scores["precision"] == 1


def test_tags_without_spans_are_averaged():
    scores = tag_scores([["N", "V"], ["N", "N"]], [["N", "V"], ["V", "N"]])
    assert scores == {"precision": pytest.approx((1 + 1 / 2) / 2), "recall": pytest.approx((2 / 3 + 1) / 2),
                      "f1": pytest.approx((4 / 5 + 2 / 3) / 2), "accuracy": pytest.approx(3 / 4), "words": 4}


@pytest.mark.parametrize("tags, named", [(["O", "B-X", "I-X"], True), (["O", "NOUN"], False), (["O"], False),
                                         (["B-X", "L-X", "U-Y"], True), (["B-X", "NOUN"], False),
                                         (["X-Y", "B-X"], False)])
def test_spans_are_known_by_their_prefix(tags, named):
    assert spans(tags) is named


def bleu_written_out(expected, predicted, words):
    """BLEU of one file with one reference each (Papineni et al. 2002), without smoothing."""
    logs = 0.0
    for size in range(1, 5):
        right = total = 0
        for one, other in zip(expected, predicted, strict=True):
            one, other = words(one), words(other)
            grams = [[tuple(text[i:i + size]) for i in range(len(text) - size + 1)] for text in (one, other)]
            right += sum(min(grams[0].count(gram), grams[1].count(gram)) for gram in set(grams[1]))
            total += len(grams[1])
        logs += math.log(right / total) / 4
    long, short = (sum(len(words(text)) for text in texts) for texts in (expected, predicted))
    return 100 * math.exp(logs) * min(1, math.exp(1 - long / short))


def test_tokenised_bleu_agrees_with_the_formula_written_out():
    expected = ["ein mann steht auf der straße .", "zwei hunde laufen über eine wiese ."]
    predicted = ["ein mann steht auf einer straße .", "zwei hunde laufen eine wiese"]
    scores = translation_scores(expected, predicted)
    assert scores["tokenized_bleu"] == pytest.approx(bleu_written_out(expected, predicted, str.split))
    assert scores["brevity_penalty"] == pytest.approx(math.exp(1 - 14 / 12))  # words
    assert translation_scores(predicted, expected)["brevity_penalty"] == 1  # long is no fault
    assert scores["texts"] == 2 and scores["exact_match"] == 0 and 0 < scores["chrf"] < 100
    assert translation_scores(expected, expected)["exact_match"] == 100
    assert translation_scores(expected, expected)["bleu"] == pytest.approx(100)
    # What is attached counts for itself only where BLEU has words of its own.
    glued = translation_scores(["er sagt , ja ; nein ."], ["er sagt, ja; nein."])
    assert glued["bleu"] == pytest.approx(100) and glued["tokenized_bleu"] < 100


def test_pieces_are_joined_on_both_sides():
    assert join_pieces("ei@@ ne kat@@ ze@@") == "eine katze"
    assert join_pieces("x @ y@@z") == "x @ y@@z"
    expected, predicted = ["ei@@ ne kat@@ ze lief@@ ."], ["eine kat@@ ze lief."]
    assert translation_scores(expected, predicted, bpe_marks=True)["exact_match"] == 100
    assert translation_scores(expected, predicted)["exact_match"] == 0


def test_the_best_reference_counts():
    scores = translation_scores([["ein haus im wald", "das haus im wald"], "der hund bellt laut"],
                                ["das haus im wald", "der hund bellt laut"])
    assert scores["exact_match"] == 100 and scores["bleu"] == pytest.approx(100)
    assert summary_scores([["nothing alike", "a small cat"]], ["small cat"])["rouge1"] == pytest.approx(4 / 5)


def test_rouge_agrees_with_the_definition():
    scores = summary_scores(["the cats sat on mats", "red"], ["the cat on the mat", "blue"])
    # Stemmed: the cat sat on mat / the cat on the mat. Words 4 of 5 and 5; pairs: "the cat" of 4 and 4; row: 4.
    assert scores == {"rouge1": pytest.approx(0.8 / 2), "rouge2": pytest.approx(0.25 / 2),
                      "rougeL": pytest.approx(0.8 / 2), "texts": 2}


def test_a_library_that_is_missing_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ImportError, match=r"pip install 'kzoo\[evaluate\]'"):
        library("sacrebleu")

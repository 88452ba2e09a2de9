"""Exact match and F1 of answers, as the SQuAD benchmark defines them.

The rules are those of its official script for version 1.1 (Rajpurkar et al. 2016, section 6.1, arXiv 1606.05250).
"""
import collections
import re
import string

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def answer_scores(expected, predicted):
    """How often an answer is right, and how many of its words are.

    Args:
        expected: for each question, its right answers: a list of texts, of which the best-matching counts.
        predicted: for each question, the answer, or None where there is none; that counts as wrong.

    Returns: dict of `exact_match` and `f1`, from 0 to 100, `questions`, and `unanswered`.
    """
    pairs = list(zip(expected, predicted, strict=True))
    exact = sum(max(map(exact_match, answers, [text] * len(answers))) for answers, text in pairs if text is not None)
    f1 = sum(max(map(word_f1, answers, [text] * len(answers))) for answers, text in pairs if text is not None)
    return {"exact_match": 100 * exact / len(pairs), "f1": 100 * f1 / len(pairs), "questions": len(pairs),
            "unanswered": sum(text is None for _, text in pairs)}


def exact_match(expected, predicted):
    """Whether two texts are equal once both are normalised."""
    return normalized(expected) == normalized(predicted)


def word_f1(expected, predicted):
    """The harmonic mean of the shares of words that two texts have in common, from 0 to 1."""
    expected, predicted = normalized(expected).split(), normalized(predicted).split()
    common = (collections.Counter(expected) & collections.Counter(predicted)).total()
    return 2 * common / (len(expected) + len(predicted)) if common else 0.0


def normalized(text):
    """Lower case, without punctuation, without articles, words one blank apart."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())

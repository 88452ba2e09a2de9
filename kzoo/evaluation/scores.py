"""Scores of predictions, computed by the field's own libraries and left on the scale that each of them uses.

Labels and tags from 0 to 1 (scikit-learn, seqeval), translations from 0 to 100 (sacrebleu), summaries from 0 to 1
(rouge-score). The libraries come with the extra `[evaluate]` and are imported when they are needed.
"""
import importlib
import itertools
import re
import warnings

from kzoo.errors import not_installed
from kzoo.tasks.entities import split_tag

BPE_MARK = re.compile(r"@@( |$)")  # what subword-nmt leaves between the pieces of a word
OUTSIDE = "O"
IOBES = str.maketrans("LU", "ES")  # the last word of several, and an only one: BILOU's letters to those seqeval reads


def library(name):
    """The module `name`, or the ImportError that says which extra brings it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise not_installed(error) from error


def label_scores(expected, predicted):
    """Accuracy, F1 averaged over the labels, and Matthews' correlation; by scikit-learn.

    Args:
        expected, predicted: labels, one a text.

    Returns: dict of `accuracy`, `macro_f1` (over the labels that occur) and `matthews`, each at most 1, and `texts`.
    """
    metrics = library("sklearn.metrics")
    return {"accuracy": float(metrics.accuracy_score(expected, predicted)),
            "macro_f1": float(metrics.f1_score(expected, predicted, average="macro", zero_division=0)),
            "matthews": float(metrics.matthews_corrcoef(expected, predicted)), "texts": len(expected)}


def tag_scores(expected, predicted):
    """How well tags agree.

    Tags of the schemes IOB, IOBES and BILOU (B-PER, I-PER, ...) name spans: precision, recall and F1 are those of whole
    spans, as conlleval counts them, by seqeval. Other tags stand alone: they are then averages over the tags, by
    scikit-learn.

    Args:
        expected, predicted: for each text, its tags, one a word.

    Returns: dict of `precision`, `recall`, `f1`, `accuracy` (share of the words that are right), each at most 1, and
        `words`.
    """
    words = sum(map(len, expected))
    if spans(tag for tags in expected for tag in tags):
        metrics = library("seqeval.metrics")
        expected, predicted = ([[tag[:1].translate(IOBES) + tag[1:] for tag in tags] for tags in rows]
                               for rows in (expected, predicted))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a score is 0 where nothing was found is no news
            found = [float(score(expected, predicted)) for score in
                     (metrics.precision_score, metrics.recall_score, metrics.f1_score, metrics.accuracy_score)]
        return {**dict(zip(("precision", "recall", "f1", "accuracy"), found, strict=True)), "words": words}
    metrics = library("sklearn.metrics")
    expected, predicted = ([tag for tags in rows for tag in tags] for rows in (expected, predicted))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(expected, predicted, average="macro",
                                                                       zero_division=0)
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1),
            "accuracy": float(metrics.accuracy_score(expected, predicted)), "words": words}


def spans(tags):
    """Whether tags name spans: all but "O" are of a scheme."""
    named = {tag for tag in tags if tag != OUTSIDE}
    return bool(named) and all(map(split_tag, named))


def translation_scores(expected, predicted, bpe_marks=False):
    """BLEU and chrF of a whole file, by sacrebleu, and how many texts are right to the letter.

    Args:
        expected: for each text its reference, or a list of several, of which the best-matching counts.
        predicted: texts.
        bpe_marks: join pieces that are marked with "@@ " first, on both sides.

    Returns: dict of `bleu` (sacrebleu's own tokenisation, 13a: comparable between papers that use it), `chrf`,
        `tokenized_bleu` (words are what blanks separate, as published for data that is tokenised already) and
        `exact_match`, all from 0 to 100, `brevity_penalty` (what `tokenized_bleu` was multiplied by, 1 = not too
        short; Papineni et al. 2002, section 2.2.2), and `texts`.
    """
    sacrebleu = library("sacrebleu")
    expected = [[each] if isinstance(each, str) else list(each) for each in expected]
    if bpe_marks:
        expected = [[join_pieces(each) for each in texts] for texts in expected]
        predicted = [join_pieces(each) for each in predicted]
    references = [list(texts) for texts in itertools.zip_longest(*expected)]  # None: this text has fewer
    right = sum(text in texts for text, texts in zip(predicted, expected, strict=True))
    # force: a text that looks tokenised is not worth a warning, as we give the figure for it as well.
    tokenized = sacrebleu.corpus_bleu(predicted, references, tokenize="none", force=True)
    return {"bleu": sacrebleu.corpus_bleu(predicted, references, force=True).score,
            "chrf": sacrebleu.corpus_chrf(predicted, references).score,
            "tokenized_bleu": tokenized.score, "brevity_penalty": tokenized.bp,
            "exact_match": 100 * right / len(predicted), "texts": len(predicted)}


def join_pieces(text):
    """"ei@@ ne kat@@ ze" -> "eine katze"."""
    return BPE_MARK.sub("", text)


def summary_scores(expected, predicted):
    """ROUGE-1, ROUGE-2 and ROUGE-L, by rouge-score: the mean over the texts of F1, words stemmed.

    Args:
        expected: for each text its summary, or a list of several, of which the best-matching counts.
        predicted: texts.

    Returns: dict of `rouge1`, `rouge2`, `rougeL`, from 0 to 1, and `texts`.
    """
    kinds = ("rouge1", "rouge2", "rougeL")
    scorer = library("rouge_score.rouge_scorer").RougeScorer(list(kinds), use_stemmer=True)
    rows = [scorer.score_multi([right] if isinstance(right, str) else list(right), text)
            for right, text in zip(expected, predicted, strict=True)]
    return {**{kind: sum(row[kind].fmeasure for row in rows) / len(rows) for kind in kinds}, "texts": len(rows)}

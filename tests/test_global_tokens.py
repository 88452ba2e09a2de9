"""Which tokens a task makes global."""
import numpy as np

from kzoo.global_tokens import RULES, choose_global_tokens

IDS = np.array([[7, 3, 9, 9, 4], [9, 7, 9, 3, 3], [3, 3, 3, 3, 3]])
REAL = np.array([[1, 1, 1, 1, 0], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]], bool)


def test_tasks_choose_their_tokens():
    assert (RULES["text-classification"], RULES["question-answering"], RULES["summarization"]) == (
        "first", "question", "first")
    np.testing.assert_array_equal(choose_global_tokens("first", IDS, REAL, 9),
                                  np.array([[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0]], bool))
    np.testing.assert_array_equal(choose_global_tokens("question", IDS, REAL, 9),
                                  np.array([[1, 1, 0, 0, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1]], bool))

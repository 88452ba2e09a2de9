"""Which tokens of a row see all others and are seen by all, where a task says and the caller does not. Numpy only.

Tokens that stand for a whole row see all of it: the first one, which is classified, or those of a question.
"""
import numpy as np

# Task -> whose tokens; other tasks have none.
RULES = {"text-classification": "first", "question-answering": "question", "translation": "first",
         "summarization": "first"}


def running_count(mask):
    """How many are True up to each place of a row: bool (B, T) -> int (B, T)."""
    return np.cumsum(mask, axis=1)


def choose_global_tokens(rule, token_ids, padding_mask, separator_id, running_count=running_count):
    """The global tokens of each row.

    Args:
        rule: "first", the first real token; or "question", what stands before the first separator.
        token_ids: int (B, T).
        padding_mask: bool (B, T), True = a real token.
        separator_id: the id that ends a question.
        running_count: `running_count` for arrays of another kind.

    Returns: bool (B, T).
    """
    if rule == "first":
        return padding_mask & (running_count(padding_mask) == 1)
    return padding_mask & (running_count(padding_mask & (token_ids == separator_id)) == 0)

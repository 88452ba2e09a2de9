"""Questions as windows over their context, and where the answer stands in each."""
import types

import numpy as np
import pytest
from keras import ops

from kzoo.tokenizers import train_tokenizer
from kzoo.training.answer_spans import AnswerSpans, answer_tokens
from kzoo.training.options import TrainOptions
from kzoo.training.row_files import Place
from kzoo.training.tables import Question

CONTEXT = "Ada Lovelace wrote notes on the engine. Bob read them, and then Ada wrote more of them at home."


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("wordpiece", [CONTEXT] * 3, 90)


def question(answer="the engine", start=None):
    start = CONTEXT.index(answer) if start is None else start
    return Question("q", "Who wrote?", CONTEXT, (answer,), answer, start, Place("a.json", None, "q"))


def encoder(tokenizer, limit, segments=2):
    return AnswerSpans(tokenizer, TrainOptions(), types.SimpleNamespace(num_segments=segments), limit)


def test_the_marked_tokens_are_the_answer(tokenizer):
    (_, (row,), fault), = encoder(tokenizer, 512).encode([question()])
    assert not fault
    assert tokenizer.decode(row["token_ids"][row["start"]:row["end"] + 1]) == "the engine"
    ids = tokenizer.encode("Who wrote?", add_special_tokens=False)
    assert row["token_ids"][:len(ids) + 2] == [tokenizer.cls_id, *ids, tokenizer.sep_id]
    assert row["token_ids"][-1] == tokenizer.sep_id
    assert row["segment_ids"] == [0] * (len(ids) + 2) + [1] * (len(row["token_ids"]) - len(ids) - 2)
    (_, (other,), _), = encoder(tokenizer, 512).encode([question("Ada", CONTEXT.rindex("Ada"))])
    assert other["start"] > row["end"]  # the second Ada, not the first


def test_windows_overlap_and_point_at_the_first_token_where_the_answer_is_not(tokenizer):
    (_, (whole,), _), = encoder(tokenizer, 512).encode([question()])
    limit = len(whole["token_ids"]) - 9
    (_, rows, _), = encoder(tokenizer, limit).encode([question()])
    assert len(rows) > 1 and all(len(row["token_ids"]) <= limit for row in rows)
    found = [row for row in rows if row["start"]]
    assert found and len(found) < len(rows) or len(rows) == len(found)
    for row in rows:
        marked = tokenizer.decode(row["token_ids"][row["start"]:row["end"] + 1])
        assert marked == ("the engine" if row["start"] else "")  # the first token is a special one
    (_, rows, _), = encoder(tokenizer, limit).encode([question("home")])
    assert [bool(row["start"]) for row in rows] == [False] * (len(rows) - 1) + [True]


def test_a_question_that_fills_the_model_is_a_fault(tokenizer):
    (_, rows, fault), = encoder(tokenizer, 7).encode([question()])
    assert not rows and "leaves no room for its context" in fault


def test_answer_tokens_are_those_that_hold_a_character_of_it():
    offsets = [(0, 3), (3, 8), (8, 8), (8, 11)]
    assert answer_tokens(offsets, 4, 8) == (1, 1)
    assert answer_tokens(offsets, 2, 9) == (0, 3)
    assert answer_tokens(offsets, 11, 12) == (None, None)


def test_a_batch_has_segments_where_the_model_tells_them_apart(tokenizer, tmp_path):
    from kzoo.training.example_files import ExampleWriter, open_examples

    made = encoder(tokenizer, 512)
    with ExampleWriter(tmp_path, "part", made.ragged, made.single) as writer:
        for _, rows, _ in made.encode([question(), question("Bob")]):
            writer.add(rows)
        writer.finish({}, {})
    examples = open_examples(tmp_path, "part", {})
    inputs, targets, weights = made.collate(examples, np.array([1, 0]), (64,))
    assert inputs["segment_ids"].shape == inputs["token_ids"].shape == (2, 64)
    assert targets["start_logits"].tolist() == examples["start"][[1, 0]].tolist()
    assert targets["end_logits"].tolist() == examples["end"][[1, 0]].tolist() and weights.tolist() == [1, 1]
    assert "segment_ids" not in encoder(tokenizer, 512, segments=1).collate(examples, np.array([1]), (64,))[0]


def test_an_answer_is_right_where_both_ends_are():
    made = AnswerSpans.__new__(AnswerSpans)
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2]]))
    outputs = {name: ops.convert_to_tensor(logits) for name in ("start_logits", "end_logits")}
    targets = {"start_logits": ops.convert_to_tensor([0, 2, 0]), "end_logits": ops.convert_to_tensor([0, 1, 0])}
    loss, total, right = np.asarray(made.sums(outputs, targets, ops.convert_to_tensor(np.array([1, 1, 0], "float32"))))
    assert (total, right) == (2, 1)
    assert loss == pytest.approx(-(2 * np.log(0.7) + np.log(0.8) + np.log(0.1)) / 2, rel=1e-5)

"""The stop-watch of the report."""
import numpy as np

from kzoo.export.latency import describe_speed, measure


class Counter:
    max_sequence_length, vocabulary_size = 11, 7

    def __init__(self):
        self.prompts, self.steps = [], 0

    def prefill(self, token_ids, padding_mask, max_new_tokens):
        self.prompts.append((token_ids.shape, max_new_tokens))
        return np.zeros((1, 7), "float32"), None

    def decode(self, token_ids, state):
        self.steps += 1
        return np.zeros((1, 7), "float32"), None


def test_prompt_and_continuation_fit_the_context():
    session = Counter()
    found = measure(session, repeats=2)
    assert session.prompts == [((1, 5), 6)] * 3 and session.steps == 3 * 5
    assert found["prompt_length"] == 5 and found["new_tokens"] == 6
    assert describe_speed({**found, "tokens_per_second": 1234.5}) == "1,234 tokens/s"
    assert found["first_token_seconds"] >= 0 and found["tokens_per_second"] > 0


class Answering:
    sizes = {"max_sequence_length": 45, "vocabulary_size": 7}

    def __init__(self):
        self.shapes = []

    def run(self, signature, inputs):
        self.shapes.append((signature, inputs["token_ids"].shape))


def test_an_answer_is_measured_one_text_at_a_time():
    session = Answering()
    found = measure(session, repeats=2)
    assert session.shapes == [("forward", (1, 45))] * 3 and found["text_length"] == 45
    assert describe_speed({**found, "seconds_per_text": 0.0123}) == "12.3 ms a text"


def test_what_cannot_be_measured_is_empty():
    session = Counter()
    session.max_sequence_length = 1
    assert measure(session) == {} and describe_speed({}) == ""

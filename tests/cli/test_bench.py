"""`kzoo bench`: the arithmetic of the measurements, on a clock of our own."""
import json
import types

import pytest

from kzoo.cli import bench, main


class Clock:
    """A clock that stands still unless told to move."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Model:
    """Takes 3 s for the first token and 0.5 s for each one after it; the first run is slower, as compilation is."""
    vocabulary_size, max_sequence_length = 11, 23

    def __init__(self, clock):
        self.clock, self.prompts, self.delay = clock, [], 100.0

    def generate(self, prompt, stream, max_new_tokens, min_new_tokens):
        assert max_new_tokens == min_new_tokens
        self.prompts.append(prompt)
        self.clock.now += 3.0 + self.delay
        self.delay = 0.0
        for token in range(max_new_tokens):
            self.clock.now += 0.5 if token else 0.0
            stream(token)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(bench, "time", types.SimpleNamespace(perf_counter=clock))
    return clock


def test_the_first_run_is_not_counted(clock):
    model = Model(clock)

    def open_it():
        clock.now += 2.0
        return model

    assert bench.measure(open_it, prompt_length=5, new_tokens=7, repeats=3) == {
        "prompt_length": 5, "new_tokens": 7, "load_seconds": 2.0, "first_token_seconds": 3.0, "tokens_per_second": 2.0}
    assert len(model.prompts) == 4
    assert all(len(prompt) == 5 and max(prompt) < 11 for prompt in model.prompts)


def test_the_prompt_and_the_answer_fit_the_context(clock):
    row = bench.measure(lambda: Model(clock), prompt_length=1000, new_tokens=1000, repeats=1)
    assert (row["prompt_length"], row["new_tokens"]) == (11, 12)


def test_a_model_that_says_nothing_has_no_speed(clock):
    model = Model(clock)
    model.generate = lambda prompt, **options: None
    with pytest.raises(ValueError, match="made 0 of 7 tokens"):
        bench.measure(lambda: model, prompt_length=5, new_tokens=7)


def test_every_artifact_is_a_row(clock, monkeypatch, tmp_path, capsys):
    artifacts = [{"runtime": "onnx", "variant": "none", "size": 1234},
                 {"runtime": "onnx", "variant": "int8", "size": 432}]
    monkeypatch.setattr(bench, "describe", lambda path: {"kind": "bundle", "task": "text-generation",
                                                         "artifacts": artifacts})
    opened = []
    monkeypatch.setattr(bench, "open_model", lambda path, **choice: opened.append(choice) or Model(clock))
    assert main(["bench", str(tmp_path), "--json", "--new-tokens", "5"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["variant"], row["size"], row["new_tokens"]) for row in rows] == [("none", 1234, 5), ("int8", 432, 5)]
    assert opened == [{"runtime": "onnx", "variant": "none"}, {"runtime": "onnx", "variant": "int8"}]
    assert main(["bench", str(tmp_path)]) == 0
    assert "onnx     int8      432 B    0.00          3000.0       2.0" in capsys.readouterr().out


def test_a_run_is_measured_live(monkeypatch):
    files = {"model.safetensors": 500, "config.json": 20}
    monkeypatch.setattr(bench, "describe", lambda path: {"kind": "run", "files": files})
    assert bench.candidates("run") == [("live", "none", 500)]


def test_other_tasks_are_refused(monkeypatch):
    monkeypatch.setattr(bench, "describe", lambda path: {"kind": "bundle", "task": "fill-mask", "artifacts": []})
    with pytest.raises(ValueError, match="serves 'fill-mask'"):
        bench.candidates("bundle")

"""`kzoo evaluate`: metrics printed, thresholds kept."""
import json

import pytest

from kzoo.cli import main

METRICS = {"loss": 1.75, "perplexity": 5.7546, "tokens": 1234}


@pytest.fixture
def evaluate(replace, text_file, tmp_path):
    recorder = replace("evaluate", METRICS)

    def run(*words):
        status = main(["evaluate", str(tmp_path), "--data", text_file, *words])
        return status, recorder.calls
    return run


def test_metrics_are_printed(evaluate, capsys, text_file, tmp_path):
    status, calls = evaluate()
    assert status == 0 and calls == [((str(tmp_path),), {"data": [text_file]})]
    assert capsys.readouterr().out == "loss        1.75\nperplexity  5.7546\ntokens      1234\n"


def test_metrics_as_json(evaluate, capsys):
    evaluate("--json", "--batch-size", "3")
    assert json.loads(capsys.readouterr().out) == METRICS


@pytest.mark.parametrize("words, status", [
    (["--at-most", "loss=1.75"], 0),
    (["--at-most", "loss=1.74"], 1),
    (["--at-least", "loss=1.75"], 0),
    (["--at-least", "perplexity=5.8"], 1),
    (["--at-most", "loss=2", "--at-least", "tokens=2000"], 1),
    (["--at-most", "los=2"], 2),
    (["--at-most", "loss=low"], 2),
])
def test_thresholds(evaluate, words, status):
    assert evaluate(*words)[0] == status


def test_a_missed_threshold_is_named_and_the_metrics_are_printed_all_the_same(evaluate, capsys):
    evaluate("--at-most", "loss=1.5", "--at-least", "tokens=2000")
    out, err = capsys.readouterr()
    assert "perplexity" in out
    assert err == "kzoo: loss is 1.75, above 1.5; tokens is 1234, below 2000\n"


def test_a_loss_that_is_no_number_misses_every_threshold(replace, text_file, tmp_path):
    replace("evaluate", {"loss": float("nan")})
    words = ["evaluate", str(tmp_path), "--data", text_file]
    assert main([*words, "--at-most", "loss=9"]) == 1
    assert main([*words, "--at-least", "loss=0"]) == 1

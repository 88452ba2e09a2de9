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


def test_the_options_of_other_tasks_are_passed_on(evaluate, text_file):
    status, calls = evaluate("--columns", "text=2,label=1", "--truncate", "--bpe-marks", "--num-beams", "4",
                             "--length-penalty", "0.6", "--max-new-tokens", "99", "--skip-bad-rows",
                             "--no-repeat-ngram-size", "3", "--early-stopping")
    assert status == 0 and calls[0][1] == {
        "data": [text_file], "columns": "text=2,label=1", "truncate": True, "bpe_marks": True, "num_beams": 4,
        "length_penalty": 0.6, "max_new_tokens": 99, "skip_bad_rows": True, "no_repeat_ngram_size": 3,
        "early_stopping": True}


def test_every_option_belongs_to_a_task():
    from kzoo.cli.evaluate import SETTINGS
    from kzoo.evaluation import TASKS, options_of

    known = {name for task in TASKS for name in options_of(task)}
    assert {name.replace("-", "_") for name in SETTINGS} <= known


def test_stored_predictions_need_no_model(tmp_path, capsys):
    (tmp_path / "data.tsv").write_text("ein\tone\nzwei\ttwo\n")
    (tmp_path / "stored.txt").write_text("one\nzw@@ ei\n")
    words = ["evaluate", "--predictions", str(tmp_path / "stored.txt"), "--data", str(tmp_path / "data.tsv"), "--json"]
    assert main([*words, "--task", "translation", "--bpe-marks", "--at-least", "exact_match=50"]) == 0
    assert json.loads(capsys.readouterr().out)["exact_match"] == 50
    assert main([*words, "--task", "translation", "--at-least", "exact_match=51"]) == 1


@pytest.mark.parametrize("words, message", [
    ([], "Name a run, a checkpoint folder or a bundle"),
    (["--task", "translation", "FOLDER"], "--task is for --predictions"),
    (["--predictions", "FILE", "FOLDER"], "measured without a model"),
    (["--predictions", "FILE", "--num-beams", "2"], "--num-beams is for a model"),
    (["--predictions", "missing.json"], "missing.json does not exist"),
])
def test_what_does_not_go_together_is_refused(evaluate, text_file, tmp_path, capsys, words, message):
    known = {"FILE": text_file, "FOLDER": str(tmp_path)}
    assert main(["evaluate", "--data", text_file, *(known.get(word, word) for word in words)]) == 2
    assert message in capsys.readouterr().err

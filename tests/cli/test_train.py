"""`kzoo train`: options to keyword arguments."""
import types

import pytest

from kzoo.cli import main
from kzoo.cli.train import SETTINGS
from kzoo.training.options import TrainOptions


@pytest.fixture
def train(replace, text_file):
    """Run `kzoo train` with more words; returns the status and the keyword arguments of the call."""
    values = {"steps": 11, "loss": 1.75, "valid": {"loss": 2.5, "tokens": 7}, "history": [{"step": 11}]}
    recorder = replace("train", types.SimpleNamespace(folder="run", results=values))

    def run(*words):
        status = main(["train", "gpt2-nano", "--task", "text-generation", "--data", text_file, "--out", "run", *words])
        return status, recorder.calls[-1] if recorder.calls else None
    return run


def test_what_is_not_given_is_left_to_the_function(train, text_file):
    status, (args, kwargs) = train()
    assert status == 0 and args == ("gpt2-nano",)
    assert kwargs == {"task": "text-generation", "data": [text_file], "out": "run", "overrides": {}}


def test_the_results_are_printed(train, capsys):
    train()
    assert capsys.readouterr().out == ("run           run\nsteps         11\nloss          1.75\n"
                                       "valid loss    2.5\nvalid tokens  7\n")


def test_every_option_is_passed_by_its_name(train, text_file):
    words = {"tokenizer": "character", "vocabulary-size": "97", "sequence-length": "13", "steps": "11",
             "batch-size": "3", "gradient-accumulation": "2", "learning-rate": "1e-3", "min-learning-rate": "1e-4",
             "warmup-steps": "5", "schedule": "cosine", "weight-decay": "0.1", "beta-1": "0.9", "beta-2": "0.99",
             "clip-norm": "1", "label-smoothing": "0.1", "mixed-precision": "bfloat16", "jit": "off", "interval": "7",
             "validation-tokens": "101", "seed": "17", "logdir": "logs", "columns": "text=2,label=1",
             "truncate": "start", "batch-tokens": "512", "length-buckets": "4", "initial-learning-rate": "1e-7",
             "adam-epsilon": "1e-6", "class-weights": "balanced", "keep": "best", "average-checkpoints": "3",
             "patience": "5"}
    status, (_, kwargs) = train("--deterministic", "--resume", "--overwrite", "--skip-bad-rows", "--whole-words",
                                "--sort-by-length",
                                "--valid", text_file,
                                *(f"--{name}={value}" for name, value in words.items()))
    assert status == 0
    for name in ("steps", "seed", "warmup_steps", "vocabulary_size"):
        assert type(kwargs[name]) is int
    assert kwargs["learning_rate"] == 1e-3 and kwargs["mixed_precision"] == "bfloat16" and kwargs["steps"] == 11
    assert kwargs["deterministic"] and kwargs["resume"] and kwargs["overwrite"] and kwargs["valid"] == [text_file]
    assert kwargs["columns"] == "text=2,label=1" and kwargs["truncate"] == "start" and kwargs["skip_bad_rows"]
    assert kwargs["sort_by_length"] is True
    assert {name.replace("-", "_") for name in SETTINGS} - set(kwargs) == {"epochs"}


def test_words_that_stand_for_a_number_or_a_side(train):
    _, (_, kwargs) = train("--truncate", "--interval", "epoch")
    assert (kwargs["truncate"], kwargs["interval"]) == ("end", "epoch")


def test_every_training_option_can_be_typed():
    typed = {name.replace("-", "_") for name in SETTINGS} | {"validation_split"}
    assert set(TrainOptions.field_names()) - typed == set()


def test_config_fields_are_passed_as_written(train):
    _, (_, kwargs) = train("--set", "num_layers=2", "use_bias=false", "--set", "position=rotary")
    assert kwargs["overrides"] == {"num_layers": "2", "use_bias": "false", "position": "rotary"}


@pytest.mark.parametrize("words, message", [
    (["--steps", "0"], "argument --steps: must be a whole number of at least 1. Received: '0'"),
    (["--learning-rate", "fast"], "argument --learning-rate: must be a number"),
    (["--schedule", "cosin"], "Unknown --schedule 'cosin'. Did you mean 'cosine'?"),
    (["--mixed-precision", "float32"], "Unknown --mixed-precision 'float32'. Did you mean 'float16'?"),
    (["--validation-split", "0.1", "--valid", "x"], "not allowed with argument"),
    (["--set", "num_layers"], "must be written NAME=VALUE"),
    (["--set", "num_layers=2", "--set", "num_layers=3"], "--set names num_layers twice"),
    (["--data", "missing.txt"], "missing.txt does not exist"),
    (["--task", "text-generatoin"], "Did you mean 'text-generation'?"),
    (["--interval", "epochs"], "argument --interval: must be a whole number of at least 1. Received: 'epochs'"),
    (["--truncate", "middle"], "Unknown --truncate 'middle'"),
    (["--keep", "bset"], "Unknown --keep 'bset'. Did you mean 'best'?"),
    (["--beta-2", "1"], "`beta_2` of TrainOptions must be below 1"),
])
def test_bad_options_are_refused_before_any_work(train, capsys, words, message, text_file):
    words = [text_file if word == "x" else word for word in words]
    status, call = train(*words)
    assert (status, call) == (2, None)
    assert message in capsys.readouterr().err

"""What can be typed, and what is said about what cannot."""
import pytest

from kzoo.cli.parser import UsageError, build_parser, parse

COMMANDS = ("list", "info", "train", "evaluate", "run", "explain", "export", "verify", "bench", "demo")


def test_every_command_is_there_and_explains_itself(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as finished:
            parse(build_parser(), [command, "--help"])
        assert finished.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: kzoo {command}")


@pytest.mark.parametrize("words, message", [
    ([], "required: COMMAND"),
    (["exprot"], "Unknown command 'exprot'. Did you mean 'export'?"),
    (["zzz"], "Unknown command 'zzz'. Choose one of: bench, demo, "),
    (["train", "gpt2-nano", "--taks", "text-generation"], "Unknown option '--taks'. Did you mean '--task'?"),
    (["train", "gpt2-nano", "--batchsize=8"], "Unknown option '--batchsize'. Did you mean '--batch-size'?"),
    (["train", "gpt2-nano", "--jit", "onn"], "Unknown --jit 'onn'. Did you mean 'on'?"),
    (["train", "gpt2-nano", "--sched", "cosine"], "Unknown option '--sched'."),  # no abbreviations: they would break
    (["--verison"], "Unknown option '--verison'. Did you mean '--version'?"),
    (["export", ".", "bundle", "more"], "Unexpected argument 'more'"),
    (["info"], "required: PATH"),
])
def test_a_slip_is_named_with_the_closest_match(words, message):
    with pytest.raises(UsageError) as caught:
        parse(build_parser(), words)
    assert message in str(caught.value)
    assert str(caught.value).endswith("--help`.") and len(str(caught.value).splitlines()) == 2


def test_words_after_two_dashes_are_no_options():
    assert parse(build_parser(), ["run", ".", "--", "--text", "-more"]).texts == ["--text", "-more"]


@pytest.mark.parametrize("words", [["list", "--debug"], ["--debug", "list"]])
def test_debug_may_stand_on_either_side(words):
    parse(build_parser(), words)

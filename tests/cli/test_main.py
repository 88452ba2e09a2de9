"""The command as a whole: exit statuses, and errors of one or two lines."""
import errno
import functools
import os
import pathlib
import signal
import subprocess
import sys
import time
import warnings

import pytest

import kzoo.cli
from kzoo.cli import main
from kzoo.errors import CheckFailed

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]


def failing(error):
    """A stand-in for `kzoo list` that raises `error`."""
    def command(args):
        raise error
    return command


@pytest.fixture
def run_list(monkeypatch):
    """Run `kzoo list` with its work replaced by a function of the arguments."""
    def run(command, *words):
        monkeypatch.setattr("kzoo.cli.show.list_models", command)
        return main(["list", *words])
    return run


def lines(text):
    return text.strip().splitlines()


def test_success_is_0(run_list, capsys):
    assert run_list(lambda args: print("done")) == 0
    assert capsys.readouterr() == ("done\n", "")


@pytest.mark.parametrize("error, status, words", [
    (ValueError("`heads` must be 3."), 2, "kzoo: `heads` must be 3."),
    (TypeError("must be int"), 2, "kzoo: must be int"),
    (FileNotFoundError("run/ is not a folder."), 2, "kzoo: run/ is not a folder."),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.txt"), 2, "kzoo: a.txt: No such file"),
    (OSError(errno.ENOSPC, "No space left on device", "run/a"), 2, "kzoo: the disk is full (run/a): free some space"),
    (OSError(errno.ENOSPC, "No space left on device"), 2, "kzoo: the disk is full: free some space"),
    (ImportError("Install kzoo[train]."), 2, "kzoo: Install kzoo[train]."),
    (MemoryError(), 2, "kzoo: out of memory"),
    (CheckFailed("3 of 5 rows differ."), 1, "kzoo: 3 of 5 rows differ."),
    (KeyboardInterrupt(), 130, "kzoo: interrupted"),
    (KeyError("surprise"), 2, "kzoo: KeyError: 'surprise'"),
    (ValueError("one\n\ntwo\nthree\nfour"), 2, "kzoo: one\ntwo three four\n"),
    (ValueError("one\n" + "two\n" * 5000), 2, "kzoo: one\ntwo two "),
])
def test_an_error_is_a_status_and_two_lines_at_most(run_list, capsys, error, status, words):
    assert run_list(failing(error)) == status
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(words) and 1 <= len(lines(err)) <= 2 and len(err) < 2500
    assert "Traceback" not in err


@pytest.mark.parametrize("words", [["list", "--debug"], ["--debug", "list"]])
def test_debug_adds_the_traceback(monkeypatch, capsys, words):
    monkeypatch.setattr("kzoo.cli.show.list_models", failing(ValueError("broken")))
    assert main(words) == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err and lines(err)[-1] == "kzoo: broken"


def test_a_warning_is_one_line(run_list, capsys):
    assert run_list(lambda args: warnings.warn("no effect", stacklevel=1)) == 0
    assert capsys.readouterr().err == "kzoo: warning: no effect\n"


def test_a_command_may_set_the_status(run_list):
    assert run_list(lambda args: 7) == 7


@pytest.mark.parametrize("words", [["-m", "kzoo", "--version"],
                                   ["-c", "from kzoo.cli import main; main(['--version'])"]])
def test_the_version(words):
    done = subprocess.run([sys.executable, *words], cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"kzoo {kzoo.__version__}\n", "")


def test_a_reader_that_leaves_is_no_error():
    code = "import kzoo.cli.show as s; s.list_models = lambda args: print('x' * 1000000); " \
           "from kzoo.cli import main; import sys; sys.exit(main(['list']))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == kzoo.cli.BROKEN_PIPE


def test_bad_usage_of_a_real_process_is_2():
    done = subprocess.run([sys.executable, "-m", "kzoo", "trian"], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert lines(done.stderr)[0].startswith("kzoo: Unknown command 'trian'. Did you mean 'train'?")


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_process_that_is_told_to_end_cleans_up(run_list, capsys, name, status):
    cleaned = []

    def command(args):
        try:
            os.kill(os.getpid(), getattr(signal, name))
            time.sleep(60)
        finally:
            cleaned.append(True)

    number = getattr(signal, name)
    inherited = signal.signal(number, signal.SIG_DFL)  # under `nohup` it would be ignored, as it should be
    try:
        assert run_list(command) == status and cleaned
        assert capsys.readouterr().err == f"kzoo: ended by {name}\n"
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, inherited)


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_an_ending_that_comes_while_garbage_is_collected_is_not_lost(run_list, capsys, monkeypatch, request, name,
                                                                     status):
    # As a terminal starts it: in the background, SIGINT would be ignored.
    for number, handler in (("SIGINT", signal.default_int_handler), ("SIGTERM", signal.SIG_DFL)):
        number = getattr(signal, number)
        request.addfinalizer(functools.partial(signal.signal, number, signal.signal(number, handler)))

    class Last:
        def __del__(self):
            os.kill(os.getpid(), getattr(signal, name))

    def command(args):
        last = Last()
        del last  # Python drops what its `__del__` raises
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            time.sleep(0.01)

    assert run_list(command) == status
    assert capsys.readouterr().err == f"kzoo: {'interrupted' if name == 'SIGINT' else 'ended by SIGTERM'}\n"
    hook = sys.unraisablehook
    monkeypatch.setattr("kzoo.cli.ending.AGAIN", 60)
    moments = iter((0, 0, 30))
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    assert run_list(command) == 0, "without that it goes on"
    assert sys.unraisablehook is hook


def test_a_signal_that_a_program_handles_stays_its_own(run_list, monkeypatch):
    received = []
    before = signal.signal(signal.SIGTERM, lambda *arguments: received.append(arguments))
    try:
        assert run_list(lambda args: os.kill(os.getpid(), signal.SIGTERM)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(received) == 1

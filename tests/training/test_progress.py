"""Progress: lines where there is no terminal, a bar where there is one, an estimate of the time left."""
import sys

from kzoo.training import progress
from kzoo.training.progress import Progress, clock, note


def test_clock():
    assert [clock(seconds) for seconds in (0, 61.9, 3600 + 10 * 60 + 5)] == ["0:00:00", "0:01:01", "1:10:05"]


def test_lines_come_only_now_and_then(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("reading", 1000, "characters") as shown:
        shown.update(10)
        now[0] += 20
        shown.update(200, "words")
        shown.update(300, "words")
    assert capsys.readouterr().err == "reading: 200/1,000 characters  words  0:01:20 left\n"


def test_the_clock_starts_anew_after_slow_beginnings(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Progress("training", 101, "steps")
    now[0] = 500.0
    shown.start_clock(1)
    now[0] = 510.0
    assert shown.line(51) == "training: 51/101 steps  0:00:10 left"


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress("training", 7, "steps") as shown:
        monkeypatch.setattr(shown, "due", lambda: True)
        shown.update(3, "loss [1.5]")
        shown.note("a line that [stays]")
    assert "a line that [stays]" in capsys.readouterr().err


def test_notes_go_to_stderr(capsys):
    note("words")
    assert capsys.readouterr() == ("", "words\n")

"""Bad rows are refused or told of, whichever was asked for."""
import pytest

from kzoo.training.faults import ENOUGH, Faults


def collect(count, skip=False):
    faults = Faults(skip)
    for line in range(1, count + 1):
        faults.add(f"a.tsv, line {line}", f"fault {line}")
    return faults


def test_no_fault_no_word(capsys):
    Faults().settle()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("count, words", [
    (1, r"^a.tsv, line 1: fault 1. Correct them, or leave"),
    (3, r"^a.tsv, line 1: fault 1. 2 other rows are bad, too, the next: a.tsv, line 2: fault 2. Correct")])
def test_bad_rows_are_refused(count, words):
    with pytest.raises(ValueError, match=words):
        collect(count).settle()


def test_so_many_are_refused_at_once():
    collect(ENOUGH - 1)
    with pytest.raises(ValueError, match=f"{ENOUGH - 1} other or more rows"):
        collect(ENOUGH)
    collect(ENOUGH, skip=True)


def test_skipped_rows_are_counted_and_the_first_are_told(capsys):
    collect(5, skip=True).settle()
    assert capsys.readouterr().err == ("Skipped 5 bad rows: a.tsv, line 1: fault 1; a.tsv, line 2: fault 2; a.tsv, "
                                       "line 3: fault 3 (and 2 more).\n")
    with pytest.raises(ValueError, match="No row is left"):
        collect(5, skip=True).settle(good=0)

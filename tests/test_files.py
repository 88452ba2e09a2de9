"""Atomic writing: complete or not at all, whatever happens meanwhile."""
import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest

from kzoo import files
from kzoo.files import atomic_folder, check_target, read_json, sweep_leftovers, write_atomic, write_json


def contents(folder):
    """Names below `folder`, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def make(target, text="new", **options):
    with atomic_folder(target, **options) as work:
        (work / "inner").mkdir()
        (work / "inner" / "file.txt").write_text(text)


def killed_in(code):
    """Run `code` until it prints a line, then kill the process; returns the line."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                               cwd=pathlib.Path(__file__).resolve().parents[1])
    line = process.stdout.readline().strip()
    process.send_signal(signal.SIGKILL)
    process.wait()
    return line


def test_a_folder_appears_when_complete(tmp_path):
    target = tmp_path / "a" / "b"
    with atomic_folder(target) as work:
        assert work.parent == target.parent and not target.exists()
        (work / "file.txt").write_text("text")
    assert contents(tmp_path) == ["a", "a/b", "a/b/file.txt"]
    assert target.stat().st_mode & 0o777 == 0o777 & ~files._umask()


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path, failure):
    with pytest.raises(failure), atomic_folder(tmp_path / "run") as work:
        (work / "file.txt").write_text("half")
        raise failure
    assert contents(tmp_path) == []


def test_a_failure_keeps_the_folder_that_was_to_be_replaced(tmp_path):
    make(tmp_path / "run", "old")
    before = contents(tmp_path)
    with pytest.raises(ValueError), atomic_folder(tmp_path / "run", overwrite=True) as work:
        (work / "file.txt").write_text("half")
        assert (tmp_path / "run" / "inner" / "file.txt").read_text() == "old"
        raise ValueError
    assert contents(tmp_path) == before


def test_overwriting_replaces_everything(tmp_path):
    make(tmp_path / "run", "old")
    (tmp_path / "run" / "stale.txt").write_text("stale")
    make(tmp_path / "run", "new", overwrite=True)
    assert (tmp_path / "run" / "inner" / "file.txt").read_text() == "new"
    assert contents(tmp_path) == ["run", "run/inner", "run/inner/file.txt"]


def test_an_existing_folder_is_refused_before_any_work(tmp_path):
    make(tmp_path / "run", "old")
    with pytest.raises(FileExistsError, match="run already exists.*overwrite"), atomic_folder(tmp_path / "run"):
        pytest.fail("no work should have begun")


def test_a_swap_that_fails_puts_the_old_folder_back(tmp_path, monkeypatch):
    make(tmp_path / "run", "old")
    replace = os.replace

    def fail_for_new(source, target):
        if str(source).endswith(".partial"):
            raise OSError(errno.EIO, "broken disk")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_for_new)
    with pytest.raises(OSError, match="broken disk"):
        make(tmp_path / "run", "new", overwrite=True)
    assert contents(tmp_path) == ["run", "run/inner", "run/inner/file.txt"]
    assert (tmp_path / "run" / "inner" / "file.txt").read_text() == "old"


def test_what_a_killed_process_left_is_swept(tmp_path):
    killed_in(f"""
import time
from kzoo.files import atomic_folder
with atomic_folder({str(tmp_path / 'run')!r}) as work:
    (work / "file.txt").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
""")
    assert len(contents(tmp_path)) == 2  # the temporary folder and its file
    make(tmp_path / "run")
    assert contents(tmp_path) == ["run", "run/inner", "run/inner/file.txt"]


def test_a_process_killed_between_the_renames_loses_nothing(tmp_path):
    make(tmp_path / "run", "old")
    killed_in(f"""
import os, time
from kzoo import files
replace = os.replace
def stop_before_the_second(source, target):
    if str(source).endswith(".partial"):
        print("ready", flush=True)
        time.sleep(60)
    replace(source, target)
os.replace = stop_before_the_second
with files.atomic_folder({str(tmp_path / 'run')!r}, overwrite=True) as work:
    (work / "file.txt").write_text("new")
""")
    assert not (tmp_path / "run").exists()
    sweep_leftovers(tmp_path / "run")
    assert contents(tmp_path) == ["run", "run/inner", "run/inner/file.txt"]


def test_what_a_killed_process_left_of_a_file_is_swept(tmp_path):
    killed_in(f"""
import os, time
from kzoo import files
os.fsync = lambda handle: (print("ready", flush=True), time.sleep(60))
files.write_atomic({str(tmp_path / 'file.txt')!r}, "half")
""")
    assert len(contents(tmp_path)) == 1 and contents(tmp_path) != ["file.txt"]
    write_atomic(tmp_path / "file.txt", "whole")
    assert contents(tmp_path) == ["file.txt"]


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    with atomic_folder(tmp_path / "run") as work:
        sweep_leftovers(tmp_path / "run")
        assert work.is_dir()


def test_names_that_look_like_patterns_are_swept_by_letter(tmp_path):
    other = tmp_path / ".run1.x.partial"
    other.mkdir()
    sweep_leftovers(tmp_path / "run[1]")
    sweep_leftovers(tmp_path / "run?")
    assert other.exists()
    sweep_leftovers(tmp_path / "run1")
    assert not other.exists()


def test_a_link_to_a_folder_is_followed(tmp_path):
    make(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    make(tmp_path / "link", "new", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "inner" / "file.txt").read_text() == "new"


def test_a_link_to_nothing_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        check_target(tmp_path / "link")


@pytest.mark.parametrize("name", ["file", "file/run", "file/deep/run"])
def test_a_file_in_the_way_is_refused(tmp_path, name):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        check_target(tmp_path / name, overwrite=True)
    assert (tmp_path / "file").read_text() == "precious"


def test_the_current_folder_is_not_overwritten(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    for target in (".", "..", tmp_path):
        with pytest.raises(ValueError, match="holds the current folder"):
            check_target(target, overwrite=True)


def test_an_unwritable_folder_is_refused(tmp_path, monkeypatch):
    # Asked of the system and not tried: whoever runs as root may write everywhere but on a read-only disk.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match="no permission to write in"):
        check_target(tmp_path / "run")


def test_a_file_is_written_whole(tmp_path):
    path = tmp_path / "file.txt"
    write_atomic(path, "größer")
    assert path.read_bytes() == "größer".encode()
    write_atomic(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert contents(tmp_path) == ["file.txt"]


def test_a_full_disk_keeps_the_old_file_and_names_it(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    write_atomic(path, "old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write_atomic(path, "new")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(path)
    assert contents(tmp_path) == ["file.txt"] and path.read_text() == "old"


def test_a_missing_folder_is_named_and_not_the_temporary_file(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_atomic(tmp_path / "missing" / "file.txt", "text")
    assert caught.value.filename == str(tmp_path / "missing" / "file.txt")


def test_json_round_trip(tmp_path):
    value = {"name": "größer", "sizes": [2, 3, 5], "none": None}
    write_json(tmp_path / "value.json", value)
    assert read_json(tmp_path / "value.json") == value
    assert "größer" in (tmp_path / "value.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("data, words", [
    (b"", "is not valid JSON"),
    (b'{"half": ', "is not valid JSON"),
    (b"\xff\xfe{}", "is not valid JSON"),
    (b"[" * 100_000, "is not valid JSON"),
    (b'{"number": ' + b"1" * 5000 + b"}", "is not valid JSON"),
    (b"[1, 2]", "must hold a JSON object. Received: list"),
])
def test_what_is_no_json_object_is_refused_by_name(tmp_path, data, words):
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(ValueError, match=f"config.json {words}"):
        read_json(tmp_path / "config.json")


def test_a_reader_beside_a_writer_sees_whole_files_only(tmp_path):
    code = f"""
from kzoo.files import atomic_folder
for i in range(20):
    with atomic_folder({str(tmp_path / 'run')!r}, overwrite=True) as work:
        (work / "a").write_text(str(i))
        (work / "b").write_text(str(i))
"""
    checkout = pathlib.Path(__file__).resolve().parents[1]
    writer = subprocess.Popen([sys.executable, "-c", code], cwd=checkout)
    pairs = set()
    while writer.poll() is None:
        try:
            pairs.add(((tmp_path / "run" / "a").read_text(), (tmp_path / "run" / "b").read_text()))
        except FileNotFoundError:
            time.sleep(0.001)
    assert writer.returncode == 0
    assert contents(tmp_path) == ["run", "run/a", "run/b"]
    assert all(text.isdigit() for pair in pairs for text in pair)  # never an empty or half-written file


def test_a_folder_that_was_moved_aside_is_not_replaced_unasked(tmp_path):
    make(tmp_path / "run", "old")
    (tmp_path / "run").rename(tmp_path / ".run.x.old")  # as a process leaves it that is killed between the renames
    with pytest.raises(FileExistsError, match="run already exists"):
        check_target(tmp_path / "run")
    assert (tmp_path / "run" / "inner" / "file.txt").read_text() == "old"


def test_a_folder_that_was_replaced_does_not_come_back(tmp_path):
    (tmp_path / ".run.x.old").mkdir()  # killed before anything was moved aside
    check_target(tmp_path / "run")
    assert contents(tmp_path) == []
    make(tmp_path / "run", "old")
    killed_in(f"""
import time, shutil
from kzoo import files
shutil.rmtree = lambda *arguments, **options: (print("ready", flush=True), time.sleep(60))
with files.atomic_folder({str(tmp_path / 'run')!r}, overwrite=True) as work:
    (work / "file.txt").write_text("new")
""")
    shutil.rmtree(tmp_path / "run")  # by its owner, before anything sweeps
    sweep_leftovers(tmp_path / "run")
    assert contents(tmp_path) == []


@pytest.mark.parametrize(("text", "message"), [
    ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is there twice"), ('{"a": NaN}', "NaN is not a finite number"),
    ('{"a": -Infinity}', "-Infinity is not a finite"), ('{"a": 1e999}', "1e999 is not a finite")])
def test_what_readers_do_not_agree_on_is_refused_where_it_matters(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=f"a.json is not valid JSON.*{message}"):
        read_json(tmp_path / "a.json", strict=True)
    assert "a" in read_json(tmp_path / "a.json")

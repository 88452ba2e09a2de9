"""The machine a benchmark ran on. Standard library only."""
import os
import pathlib
import platform
import threading
import time

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def describe():
    """Processor, cores, memory (GiB), and how busy others keep the machine, in percent.

    Call it while no work of one's own runs.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = PAGE * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return {"processor": _processor(), "cores": cores, "memory_gib": round(memory / 2**30), "busy": busy()}


def busy(seconds=2.0):
    """Percent of the processors' time that was spent, over `seconds`; None where there is no /proc/stat.

    The load average would still remember work that ended a minute ago.
    """
    before = _times()
    time.sleep(seconds)
    spent = [after - earlier for earlier, after in zip(before, _times(), strict=True)]
    return round(100 * (1 - sum(spent[3:5]) / max(1, sum(spent)))) if spent else None  # idle, waiting for the disk


def _times():
    try:
        return [int(word) for word in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return []


def _processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


class PeakMemory:
    """The most memory that a process and all below it held at one moment, looked at five times a second.

    A context manager. A page that several processes share is shared out among them, as Linux does in Pss.

    Attributes:
        bytes: the peak of all together; None where there is no /proc.
        largest: the peak of a single one.
    """

    def __init__(self, pid):
        self.bytes = self.largest = None
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._done.set()
        self._thread.join()

    def _watch(self):
        while not self._done.is_set() and os.path.isdir("/proc/self"):
            held = [_held(pid) for pid in _family(self._pid)]
            self.bytes = max(self.bytes or 0, sum(held))
            self.largest = max(self.largest or 0, *held)
            self._done.wait(0.2)


def _family(pid):
    """`pid` and every process below it."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            children.setdefault(_parent(entry), []).append(int(entry))
    found = [pid]
    for each in found:  # grows as it goes
        found += children.get(each, [])
    return found


def _parent(pid):
    try:
        text = pathlib.Path("/proc", pid, "stat").read_text()
    except OSError:  # it has just ended
        return None
    return int(text.rpartition(")")[2].split()[1])


def _held(pid):
    """Bytes in memory of one process; 0 if it has just ended."""
    try:
        lines = pathlib.Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)

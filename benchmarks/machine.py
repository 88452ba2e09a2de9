"""The machine a benchmark ran on. Standard library only."""
import os
import pathlib
import platform
import threading
import time

PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def describe():
    """Processor, cores, memory (GiB) and the load average of the last minute."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = PAGE * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {"processor": _processor(), "cores": cores, "memory_gib": round(memory / 2**30), "load": round(load, 2)}


def _processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


class PeakMemory:
    """The most memory that a process and all below it held at one moment, looked at ten times a second.

    A context manager. Pages that several of the processes share, libraries for example, are counted in each.

    Attributes:
        bytes: the peak; None where there is no /proc.
    """

    def __init__(self, pid):
        self.bytes = None
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
            self.bytes = max(self.bytes or 0, sum(map(_resident, _family(self._pid))))
            time.sleep(0.1)


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


def _resident(pid):
    try:
        return int(pathlib.Path("/proc", str(pid), "statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0

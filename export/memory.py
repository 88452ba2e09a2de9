"""How much memory this process has and had."""
import sys


def peak_memory():
    """The most bytes this process had in memory; None where the system does not say."""
    found = _status("VmHWM")  # not getrusage, whose maximum counts what the parent had when this process was forked off
    if found is not None:
        return found
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def watch(action):
    """Call a function and see how much memory it took.

    Args:
        action: without arguments.

    Returns: what `action` returns, and the most bytes by which this process was larger meanwhile than before; None
        where the system does not say. Pages of files that are mapped into memory count once they are read.
    """
    before = _status("VmRSS")
    earlier = 0 if _forget_peak() else peak_memory()
    result = action()
    now, peak = _status("VmRSS"), peak_memory()
    if before is None or now is None:
        return result, None
    return result, max(peak if peak > earlier else now, before) - before


def _forget_peak():
    """Let the system's record of the peak begin anew; whether it did."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        return True
    except OSError:  # not Linux, or a container that does not allow it
        return False


def _status(field):
    """A field of Linux's account of this process, in bytes; None elsewhere."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(f"{field}:"))
    except (OSError, StopIteration):
        return None

"""What the benchmark scripts share: rounds of contenders in turn, medians, the machine's description."""
import datetime
import os
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
WORK = HERE / "work"  # what scripts write; not under version control


def measure(python, script, *arguments, timeout=1800):
    """Run a contender in its own interpreter and read the number after `RESULT` on its last such line.

    Returns: float, or None with the reason on stderr if it failed.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1",
                   "PYTHONPATH": str(ROOT)}
    command = [str(python), str(HERE / "contenders" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout, cwd=WORK)
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("RESULT "):
            return float(line.split()[1])
    print(f"{script} {' '.join(map(str, arguments))} failed: {done.stderr.strip()[-600:]}", file=sys.stderr)
    return None


def in_turn(contenders, rounds=3):
    """name -> median of its results, the contenders run A B C A B C, so that a drifting machine is fair to all.

    Args:
        contenders: name -> function that returns a number, or None when it failed.
        rounds: runs of each.
    """
    results = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            value = run()
            print(f"  {name}: {value}", file=sys.stderr, flush=True)
            if value is not None:
                results[name].append(value)
    return {name: statistics.median(values) for name, values in results.items() if values}


def row(work, what, value, unit, bar="", note=""):
    """One line of the results."""
    return {"work": work, "what": what, "value": value, "unit": unit, "bar": bar, "note": note}


def ratios(work, medians, ours, peers, bar):
    """A row for each peer: ours divided by the peer's."""
    return [row(work, f"{ours} / {peer}", round(medians[ours] / medians[peer], 2), "x", bar)
            for peer in peers if ours in medians and peer in medians]


def machine():
    """Processor, cores, memory, system and date, as words."""
    model = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}, "
            f"{datetime.date.today().isoformat()}")

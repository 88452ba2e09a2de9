"""What every benchmark script shares: its options, its contenders in processes of their own, its result.

Standard library only. A contender is a program of `contenders/`; it gets ready once (compiles, converts, warms up) and
then measures whenever it is told to, so that rounds can go A B C A B C without starting anything anew.
"""
import argparse
import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import shlex
import subprocess
import sys
import tempfile
import time

import machine
import rows

HERE = pathlib.Path(__file__).resolve().parent
CHECKOUT = HERE.parent
WORK = HERE / "work"
RESULTS = HERE / "results"
MARK = "@@ "  # what a contender prints for us; libraries print too
# Options whose values are this machine's paths -> what to show instead; None hides the option.
PLACEHOLDERS = {"--peers": "PYTHON", "--keras-hub": "PYTHON", "--fairseq": "PYTHON", "--data": "PATH", "--out": None}
PAUSE = 1.0   # seconds between two contenders, in which threads that still spin go to sleep


def options(title, rounds=None, data=None, peers=False, keras_hub=False):
    """An argument parser with the options that the scripts have in common.

    Args:
        title: what the script measures.
        rounds: default number of rounds; None leaves `--rounds` out.
        data: where its data lies below a folder of data sets, file or folder; None leaves `--data` out.
        peers, keras_hub: whether the script takes these.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to see whether it runs; nothing is kept")
    parser.add_argument("--out", type=pathlib.Path, metavar="JSON", help="where the result goes")
    if rounds:
        parser.add_argument("--rounds", type=int, default=rounds, metavar="N", help=f"runs of each; default {rounds}")
        parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads of every contender; default 2")
    if data:
        parser.add_argument("--data", type=pathlib.Path, default=find_data(data), metavar="PATH",
                            help=f"{data} of the data sets, or another of its form")
    if peers:
        parser.add_argument("--peers", metavar="PYTHON", help="interpreter with requirements-peers.txt; without it the "
                                                              "peers are left out")
    if keras_hub:
        parser.add_argument("--keras-hub", metavar="PYTHON", help="interpreter with requirements-keras-hub.txt")
    return parser


def find_data(name=""):
    """Where a developer has a data set, or all of them; None if nowhere."""
    path = pathlib.Path(os.environ.get("KZOO_SHARED", CHECKOUT.parent / "shared")) / "data" / name
    return path if path.exists() else None


def need_data(args, *files):
    """The data's file, or its folder, which must hold `files`; ends the script where it is not there."""
    wanted = f"the folder with {', '.join(files)}" if files else "tiny Shakespeare (input.txt of char-rnn)"
    if args.data is None:
        sys.exit(f"Give {wanted} with --data.")
    missing = [path for path in ([args.data / name for name in files] or [args.data]) if not path.is_file()]
    if missing:
        sys.exit(f"{missing[0]} is no file. Give {wanted} with --data.")
    return args.data.resolve()


def use_checkout():
    """Let this process import kzoo from here, and leave out what TensorFlow says of the machine."""
    sys.path.insert(0, str(CHECKOUT))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def environment(threads=None, **more):
    """The parent's, with this checkout importable and the libraries quiet and held to `threads`."""
    result = {**os.environ, "PYTHONPATH": str(CHECKOUT), "TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1",
              "PYTHONUNBUFFERED": "1", **more}
    if threads:
        result |= {"OMP_NUM_THREADS": str(threads), "TF_NUM_INTRAOP_THREADS": str(threads)}
    return result


class Contender:
    """A program of `contenders/` in a process of its own; a context manager.

    Args:
        name: for the table.
        python: the interpreter; None means it is not there, and the contender is left out.
        program: file name in `contenders/`.
        arguments: of the program.
        threads: see `environment`.
        optional: whether its failure is noted in the table; otherwise it ends the benchmark.
        variables: more of the environment.
    """

    def __init__(self, name, python, program, *arguments, threads=None, optional=False, **variables):
        self.name = name
        self.command = python and [str(python), str(HERE / "contenders" / program), *map(str, arguments)]
        self.problem = None if python else "not measured: no interpreter for it was given"
        self.optional = optional
        self.ready = {}     # what it said when it was ready: versions, and what else the program gives
        self.answers = []   # one dict a round
        self._environment = environment(threads, **variables)
        self._process = self._log = None

    def __enter__(self):
        if self.problem is None:
            WORK.mkdir(exist_ok=True)
            say(f"{self.name}: getting ready")
            self._log = tempfile.TemporaryFile("w+")
            self._process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=self._log, text=True, env=self._environment, cwd=WORK)
            self.ready = self._read() or {}
        return self

    def __exit__(self, *error):
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            try:
                self._process.wait(10 if error[0] is None else 0.1)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._log.close()

    def round(self):
        """Measure once."""
        if self.problem is None:
            with contextlib.suppress(BrokenPipeError):  # if it has ended, reading says so
                self._process.stdin.write("go\n")
                self._process.stdin.flush()
            answer = self._read()
            if answer is not None:
                self.answers.append(answer)

    def values(self, key):
        """One number a round; empty if a round failed."""
        return [] if self.problem else [answer[key] for answer in self.answers]

    def row(self, key, unit, note=""):
        return rows.Row(self.name, self.values(key), unit, note=self.problem or note)

    def _read(self):
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line[len(MARK):])
        self._process.wait()
        self._log.seek(0)
        tail = self._log.read().strip()[-2000:]
        if not self.optional:
            raise RuntimeError(f"{self.name} ended with status {self._process.returncode}:\n{tail}")
        self.problem = f"failed: {tail.splitlines()[-1][:200] if tail else 'no message'}"
        say(f"{self.name} {self.problem}")
        return None


def token_row(contender, reference):
    """A contender's tokens a second, with how many of its ids are those of a reference."""
    note = ""
    if contender is not reference and contender.answers:
        pairs = [pair for rows in zip(reference.answers[0]["ids"], contender.answers[0]["ids"], strict=True)
                 for pair in zip(*rows, strict=True)]
        note = f"{sum(mine == other for mine, other in pairs)} of {len(pairs)} ids are those of {reference.name}"
    return contender.row("tokens_per_second", "tokens/s", note)


def interleave(contenders, rounds):
    """Measure every contender once a round, in turn. They are all ready before the first round."""
    with contextlib.ExitStack() as stack:
        for contender in contenders:
            stack.enter_context(contender)
        for done in range(rounds):
            for contender in contenders:
                time.sleep(PAUSE)
                contender.round()
                if contender.answers:
                    say(f"round {done + 1}: {contender.name}: {json.dumps(contender.answers[-1])[:120]}")


def run_once(*command, **variables):
    """Run a program to its end.

    Returns: what it printed for us, and in bytes `peak`, the most memory that it and its children held together, and
        `largest`, the most that one of them held.
    """
    WORK.mkdir(exist_ok=True)
    process = subprocess.Popen([str(word) for word in command], env=environment(**variables), cwd=WORK,
                               stdout=subprocess.PIPE, text=True)
    with machine.PeakMemory(process.pid) as peak:
        answers = [line[len(MARK):] for line in process.stdout if line.startswith(MARK)]
        status = process.wait()
    if status or not answers:
        raise RuntimeError(f"{shlex.join(map(str, command))} ended with status {status} and {len(answers)} answers.")
    return {**json.loads(answers[-1]), "peak": peak.bytes, "largest": peak.largest}


def versions_of(contenders):
    """Interpreter's role -> package -> version, for the result."""
    found = {}
    for contender in contenders:
        for place, versions in contender.ready.get("versions", {}).items():
            found.setdefault(place, {}).update(versions)
    return found


def own_versions(*packages):
    """The same for this interpreter."""
    return {"kzoo's environment": {"Python": platform.python_version(),
                                   **{name: importlib.metadata.version(name) for name in packages}}}


def finish(args, name, title, text, table, versions, started):
    """Print the rows and write the result.

    Args:
        name: of the script.
        title, text: its heading and a few sentences on how it was measured.
        table: list of `rows.Row`.
        versions: place -> package -> version.
        started: `machine.describe()` from before the work.
    """
    if started["busy"] is not None:
        started["busy"] = max(started["busy"], machine.busy())
    result = {"name": name, "title": title, "text": text, "rows": table, "command": command_line(sys.argv),
              "date": today(), "machine": started, "versions": versions}
    print(rows.table(table))
    path = args.out or results(args) / f"{name}.json"
    rows.write(path, result)
    say(f"{path} written")
    return 0 if all(row.met is not False for row in table) or args.toy else 1


def command_line(words):
    """The command as a reader would type it: interpreters and data as placeholders, no output path."""
    shown, left = [f"benchmarks/{pathlib.Path(words[0]).name}"], list(words[1:])
    while left:
        word, _, value = left.pop(0).partition("=")
        if word not in PLACEHOLDERS:
            shown.append(f"{word}={value}" if value else word)
            continue
        if not value and left:
            left.pop(0)
        shown += [word, PLACEHOLDERS[word]] if PLACEHOLDERS[word] else []
    backend = os.environ.get("KERAS_BACKEND")
    return (f"KERAS_BACKEND={backend} " if backend else "") + shlex.join(["python", *shown])


def results(args):
    """The folder of results; what `--toy` gives is not kept among them."""
    return WORK / "toy" if args.toy else RESULTS


def today():
    return datetime.date.today().isoformat()


def say(line):
    print(line, file=sys.stderr, flush=True)

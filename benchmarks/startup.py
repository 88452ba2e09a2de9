"""How long Python takes with `import kzoo`, and the `kzoo` command with `--help`."""
import pathlib
import subprocess
import sys
import time

import bench

TITLE = "Starting: seconds of a whole process"
TEXT = "From the start of the process to its end, in turns, files in the page cache."


def commands():
    """Name -> (command, bar)."""
    script = pathlib.Path(sys.executable).with_name("kzoo")
    kzoo = [str(script)] if script.is_file() else [sys.executable, "-m", "kzoo"]
    return {"`python -c pass`": ([sys.executable, "-c", "pass"], None),
            "`python -c 'import kzoo'`": ([sys.executable, "-c", "import kzoo"], "<= 0.3"),
            "`kzoo --help`": ([*kzoo, "--help"], "<= 0.5"),
            "`kzoo train --help`": ([*kzoo, "train", "--help"], None)}


def main():
    args = bench.options(TITLE, rounds=15).parse_args()
    started, found = bench.machine.describe(), {name: [] for name in commands()}
    for done in range((2 if args.toy else args.rounds) + 1):
        for name, (command, _) in commands().items():
            begin = time.perf_counter()
            subprocess.run(command, check=True, env=bench.environment(), stdout=subprocess.DEVNULL)
            if done:  # the first round reads the files
                found[name].append(time.perf_counter() - begin)
    table = [bench.rows.Row(name, found[name], "s", bar) for name, (_, bar) in commands().items()]
    return bench.finish(args, "startup", TITLE, TEXT, table, bench.own_versions(), started)


if __name__ == "__main__":
    sys.exit(main())

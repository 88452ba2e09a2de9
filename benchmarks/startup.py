"""How long `import kzoo` and `kzoo --help` take, as whole processes."""
import subprocess
import sys
import time

from common import ROOT, in_turn, row


def run(arguments):
    def seconds(*command):
        def once():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
            return time.perf_counter() - started
        return once

    medians = in_turn({"python": seconds("-c", "pass"), "import kzoo": seconds("-c", "import kzoo"),
                       "kzoo --help": seconds("-m", "kzoo", "--help")}, max(arguments.rounds, 5))
    bars = {"import kzoo": "<= 0.3 s", "kzoo --help": "<= 0.5 s"}
    return [row("start", name, round(value, 3), "s", bars.get(name, "")) for name, value in medians.items()]

"""Run the benchmarks and write RESULTS.md. `python benchmarks/run.py --peers PYTHON [--only NAME ...]`"""
import argparse
import importlib
import json
import sys

from common import HERE, WORK, machine

SCRIPTS = ("startup", "fit_throughput", "export_gpt2_small", "decode_gpt2_small", "shakespeare")
RESULTS = HERE / "RESULTS.md"
STORE = HERE / "results.json"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=sys.executable, help="interpreter with the peers of requirements-peers.txt")
    parser.add_argument("--keras-hub", help="interpreter with keras-hub; default: this one")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS)
    parser.add_argument("--data", help="text of tiny Shakespeare, for the script of that name")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    results = json.loads(STORE.read_text()) if STORE.exists() else {}
    for name in arguments.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows = importlib.import_module(name).run(arguments)
        if rows:
            results[name] = {"machine": machine(), "command": f"python benchmarks/run.py --only {name}", "rows": rows}
            STORE.write_text(json.dumps(results, indent=1) + "\n")
            RESULTS.write_text(render(results))
    print(render(results))


def render(results):
    """RESULTS.md from the stored rows."""
    lines = ["# Benchmarks", "",
             "Medians of several runs, contenders in turn within one run; `make bench` repeats them. Absolute figures move",
             "from machine to machine, ratios less.", ""]
    for name in (name for name in SCRIPTS if name in results):
        entry = results[name]
        lines += [f"## {name}", "", f"`{entry['command']}` on {entry['machine']}", "",
                  "| work | what | result | bar | note |", "|---|---|---:|---|---|"]
        lines += [f"| {row['work']} | {row['what']} | {row['value']:,} {row['unit']} | {row['bar']} | {row['note']} |"
                  for row in entry["rows"]]
        lines.append("")
    notes = HERE / "NOTES.md"
    return "\n".join(lines) + (notes.read_text() if notes.exists() else "")


if __name__ == "__main__":
    main()

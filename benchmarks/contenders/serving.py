"""The contender's side: say that it is ready, then measure whenever told. Standard library only."""
import importlib.metadata
import json
import sys

MARK = "@@ "


def serve(place, packages, measure, **more):
    """Answer every line of stdin with one measurement, until stdin ends.

    Args:
        place: whose environment this is, for the list of versions.
        packages: what to list of it.
        measure: () -> dict of plain values.
        more: plain values for the "ready" line.
    """
    versions = {place: {name: importlib.metadata.version(name) for name in packages}}
    answer({"versions": versions, **more})
    for _ in sys.stdin:
        answer(measure())


def answer(values):
    """One line for the benchmark that started us."""
    print(MARK + json.dumps(values), flush=True)

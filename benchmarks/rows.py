"""What a benchmark says: rows of measured values, their bars, and how they read as Markdown. Standard library only."""
import dataclasses
import json
import operator
import os
import pathlib
import statistics
import tempfile

COMPARISONS = {"<=": operator.le, ">=": operator.ge}
BUSY = 10  # percent of the processors that others may take before timings stop meaning anything


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        name: what was measured.
        values: one number a run; the median counts. Empty: not measured, `note` says why.
        unit: of the values; "x" for a ratio.
        bar: what the median must reach, "<= 1.92" or ">= 1.2"; None for figures without a target.
        note: a few words.
    """
    name: str
    values: tuple = ()
    unit: str = ""
    bar: str | None = None
    note: str = ""

    def __post_init__(self):
        if self.bar is not None and (self.bar.split()[0] not in COMPARISONS or len(self.bar.split()) != 2):
            raise ValueError(f"`bar` must read like '<= 1.92' or '>= 1.2'. Received: {self.bar!r}.")
        object.__setattr__(self, "values", tuple(self.values))

    @property
    def median(self):
        return statistics.median(self.values) if self.values else None

    @property
    def met(self):
        """Whether the median reaches the bar; None without a bar or without values."""
        if self.bar is None or not self.values:
            return None
        comparison, limit = self.bar.split()
        return COMPARISONS[comparison](self.median, float(limit))


def ratio(name, ours, theirs, bar=None, note=""):
    """A row of `ours` / `theirs`, round by round: what slows the machine for a while slows both.

    Args:
        ours, theirs: rows whose values come from the same rounds.
    """
    if not ours.values or not theirs.values:
        return Row(name, (), "x", bar, "not measured")
    values = [mine / other for mine, other in zip(ours.values, theirs.values, strict=True)]
    return Row(name, values, "x", bar, note)


def number(value):
    """Four digits, or whole numbers with separators where there are more."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def table(rows):
    """A Markdown table of `rows`."""
    lines = ["| | median | runs: lowest to highest | bar | |", "|---|---:|---:|---:|---|"]
    for row in rows:
        unit = f" {row.unit}" if row.unit and row.unit != "x" else row.unit
        median = f"{number(row.median)}{unit}" if row.values else "–"
        spread = f"{len(row.values)}: {number(min(row.values))} to {number(max(row.values))}" \
            if len(row.values) > 1 else str(len(row.values) or "–")
        verdict = {True: "met", False: "**missed**", None: ""}[row.met]
        words = "; ".join(word for word in (verdict, row.note) if word)
        lines.append(f"| {row.name} | {median} | {spread} | {row.bar or ''} | {words} |")
    return "\n".join(lines)


def section(result):
    """One result as Markdown."""
    machine, busy = result["machine"], result["machine"].get("busy")
    lines = [f"## {result['title']}", "", result["text"], "", table([Row(**row) for row in result["rows"]]), "",
             f"`{result['command']}`", "",
             f"{result['date']}; {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; "
             f"taken by others before and after: {'not known' if busy is None else f'{busy} %'}."]
    if busy is not None and busy > BUSY:
        lines.append("**Others kept the machine busy: times and speeds mean little.**")
    for place, versions in result["versions"].items():
        lines.append(f"{place}: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    return "\n".join(lines)


def write(path, result):
    """Write a result as JSON, whole or not at all."""
    rows = [dataclasses.asdict(row) for row in result["rows"]]
    write_text(path, json.dumps({**result, "rows": rows}, indent=1, ensure_ascii=False) + "\n")


def write_text(path, text):
    """Write a file, whole or not at all."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".partial", delete=False, encoding="utf-8") as file:
        file.write(text)
    os.replace(file.name, path)
    os.chmod(path, 0o644)

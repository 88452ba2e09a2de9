"""Results on stdout: tables for people, JSON for programs."""
import json
import math
import sys


def print_json(value):
    """Indented JSON; numbers that are none (NaN, infinity) become null, which every reader understands."""
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def print_table(columns, rows):
    """A table with rules in a terminal, aligned columns elsewhere.

    Args:
        columns: names; a name that ends in ">" is aligned right.
        rows: sequences of values; None prints as "-", booleans as yes and NO.
    """
    right = [name.endswith(">") for name in columns]
    names = [name.rstrip(">") for name in columns]
    rows = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(names, right, rows)
        return
    widths = [max(len(row[i]) for row in [names, *rows]) for i in range(len(names))]
    for row in [names, *rows]:
        cells = [cell.rjust(width) if flush else cell.ljust(width)
                 for cell, width, flush in zip(row, widths, right, strict=True)]
        print("  ".join(cells).rstrip())


def print_fields(fields):
    """`name  value` lines; None values are left out."""
    fields = {name: value for name, value in fields.items() if value is not None}
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        print(f"{name.ljust(width)}  {value}")


def file_size(count):
    """Bytes in the unit that reads best: 1234567 -> "1.2 MB"."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def counted(number):
    """124439808 -> "124.4M"."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return str(number)


def progress(message):
    """A line on stderr: stdout carries results only."""
    print(message, file=sys.stderr, flush=True)


def _plain(value):
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):  # a number or an array of numpy's
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value):
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


def _print_rich(names, right, rows):
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name, flush in zip(names, right, strict=True):
        table.add_column(name, justify="right" if flush else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: a "[" in a cell is no markup
    Console().print(table)

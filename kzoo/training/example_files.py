"""Encoded examples on disk: written once, in order, and read back through a memory map.

A part of the data, say `training`, has `<part>.<column>.values` for each column, int32, least byte first, and
`<part>.<column>.lengths` for columns whose rows have several values. `<part>.json` says how many rows there are and
what they were made from. It is written last, so a part that has one is complete.
"""
import contextlib
import os
import pathlib

import numpy as np

from kzoo.files import read_json, write_json

VALUES, LENGTHS, DTYPE = "values", "lengths", "<i4"


class Ragged:
    """Rows of different lengths in one flat array.

    Args:
        values: (total,) of all rows, one after the other.
        lengths: (N,) int.
    """

    def __init__(self, values, lengths):
        self.values = values
        self.lengths = np.asarray(lengths)
        self._starts = np.cumsum(self.lengths, dtype="int64") - self.lengths

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, row):
        return self.values[self._starts[row]:self._starts[row] + self.lengths[row]]

    def padded(self, rows, width, fill=0):
        """int32 (B, width) of the chosen rows, filled up; each must fit."""
        columns = np.arange(width)
        inside = columns < self.lengths[rows][:, None]                                    # (B, width)
        places = np.where(inside, self._starts[rows][:, None] + columns, 0)
        return np.where(inside, self.values[places], np.int32(fill)).astype("int32")


class Examples:
    """Encoded examples.

    Attributes:
        columns: name -> Ragged, or (N,) int32 where a row has one value.
        facts: plain values that were written with them.
    """

    def __init__(self, columns, facts):
        self.columns = columns
        self.facts = facts

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, column):
        return self.columns[column]


class ExampleWriter:
    """Writes one part; a context manager that leaves nothing complete behind if it is left by an error.

    Args:
        folder, part: where it goes.
        ragged, single: names of the columns whose rows have several values, and one.
    """

    def __init__(self, folder, part, ragged, single=()):
        self.folder, self.part = pathlib.Path(folder), part
        self.ragged, self.single = tuple(ragged), tuple(single)
        self.rows = 0
        self._files = contextlib.ExitStack()

    def __enter__(self):
        (self.folder / f"{self.part}.json").unlink(missing_ok=True)
        kinds = [(name, VALUES) for name in (*self.ragged, *self.single)] + [(name, LENGTHS) for name in self.ragged]
        self._open = {kind: self._files.enter_context(open(_path(self.folder, self.part, *kind), "wb"))
                      for kind in kinds}
        return self

    def __exit__(self, *error):
        self._files.close()

    def add(self, rows):
        """Append rows: dicts with a sequence of int for each ragged column and an int for each single one."""
        for name in self.ragged:
            values = [np.asarray(row[name], DTYPE) for row in rows]
            self._write((name, VALUES), np.concatenate(values) if values else [])
            self._write((name, LENGTHS), [len(value) for value in values])
        for name in self.single:
            self._write((name, VALUES), [row[name] for row in rows])
        self.rows += len(rows)

    def finish(self, source, facts):
        """Mark the part complete.

        Args:
            source: plain values; `open_examples` gives the part back for the same ones.
            facts: plain values that travel with it.
        """
        for file in self._open.values():
            file.flush()
            os.fsync(file.fileno())
        self._files.close()
        write_json(self.folder / f"{self.part}.json", {
            "source": source, "facts": facts, "rows": self.rows, "ragged": self.ragged, "single": self.single})

    def _write(self, kind, values):
        np.asarray(values, DTYPE).tofile(self._open[kind])


def open_examples(folder, part, source):
    """The Examples of a part, or None where it is absent, incomplete, or made from another source."""
    folder = pathlib.Path(folder)
    try:
        record = read_json(folder / f"{part}.json")
        if record["source"] != source:
            return None
        columns = {}
        for name in record["ragged"]:
            lengths = _read(folder, part, name, LENGTHS, record["rows"])
            columns[name] = Ragged(_read(folder, part, name, VALUES, int(lengths.sum(dtype="int64"))), lengths)
        for name in record["single"]:
            columns[name] = _read(folder, part, name, VALUES, record["rows"])
        return Examples(columns, record["facts"])
    except (OSError, ValueError, KeyError):
        return None


def _read(folder, part, name, kind, count):
    path = _path(folder, part, name, kind)
    if path.stat().st_size != count * np.dtype(DTYPE).itemsize:
        raise ValueError(f"{path} is incomplete.")
    return np.memmap(path, DTYPE, mode="r") if count else np.zeros(0, DTYPE)


def _path(folder, part, name, kind):
    return folder / f"{part}.{name}.{kind}"

"""Tables become encoded rows on disk, once; a later process finds them there."""
import hashlib
import itertools

import numpy as np

from kzoo.training.example_files import ExampleWriter, open_examples
from kzoo.training.faults import Faults
from kzoo.training.progress import Progress, note
from kzoo.training.tables import read_table

GROUP = 1000  # examples encoded together, in parallel


def encode_table(table, encoder, folder, part, chosen=None, skip_bad_rows=False):
    """The rows of a table for one part of a run, from disk if they are there, else encoded now.

    Args:
        table: `Table`.
        encoder: a `RowEncoder` for its task.
        folder: where they are kept.
        part: "training" or "validation".
        chosen: bool (rows,): which of the table's rows are of this part; None: all.
        skip_bad_rows: leave out what does not fit into the model, and say so, instead of refusing it.

    Returns: `Examples`.
    Raises: ValueError naming file and line of what does not fit.
    """
    chosen = np.ones(table.rows, bool) if chosen is None else chosen
    source = {"data": table.sha256, "columns": repr(table.columns), "rows": table.rows,
              "chosen": hashlib.sha256(np.packbits(chosen)).hexdigest(), **encoder.identity()}
    found = open_examples(folder, part, source)
    if found is not None:
        return found
    faults, done, encoder.cut = Faults(skip_bad_rows), 0, 0
    examples = itertools.compress(read_table(table), chosen)
    with (Progress(f"encoding the {part} data", int(chosen.sum()), "examples") as progress,
          ExampleWriter(folder, part, encoder.ragged, encoder.single) as writer):
        while group := list(itertools.islice(examples, GROUP)):
            rows = []
            for example, made, fault in encoder.encode(group):
                rows += made
                if fault:
                    faults.add(example.place, fault)
            writer.add(rows)
            done += len(group)
            progress.update(done)
        faults.settle(writer.rows)
        writer.finish(source, {"examples": done - faults.count, "skipped": faults.count, "cut": encoder.cut})
    if encoder.cut:
        limits = " or ".join(map(str, dict.fromkeys(encoder.limits)))
        note(f"Cut {encoder.cut:,} of {done:,} {part} texts to {limits} tokens.")
    return open_examples(folder, part, source)


def split_rows(table, share, seed):
    """bool (rows,): which rows of a table are held out.

    They are drawn from the seed, because files are often sorted by label. Questions are taken from the end, because
    those about one context must not be on both sides.
    """
    count = min(table.rows - 1, max(1, round(table.rows * share))) if share else 0
    held_out = np.zeros(table.rows, bool)
    if table.task == "question-answering":
        held_out[table.rows - count:] = True
    else:
        held_out[np.random.default_rng([seed, table.rows]).permutation(table.rows)[:count]] = True
    return held_out

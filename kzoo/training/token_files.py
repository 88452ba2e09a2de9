"""Tokens on disk: a text is encoded once, piece by piece, and read back through a memory map.

`<name>.tokens` holds the ids, 2 or 4 bytes each, least byte first; `<name>.json` says how many there are and what they
were made from. The json is written last, so a file that has one is complete.
"""
import os
import pathlib

import numpy as np

from kzoo.files import read_json, write_json
from kzoo.training.text_files import read_pieces

PIECES = 16  # encoded together; a token takes a hundred bytes until it is written


def encode_text(text, tokenizer, folder, name, start=0, stop=None, report=None, documents=False):
    """The tokens of a text's characters `start` to `stop`, from disk if they are there, else encoded now.

    Args:
        text: a `Text` from `check_text`.
        tokenizer: a `kzoo.tokenizers.Tokenizer`; no special tokens are added.
        folder, name: where the two files go.
        start, stop: the part of the text, in characters.
        report: called with the number of characters done, now and then.
        documents: the name of a special token in the text stands for it, so that `<|endoftext|>` ends a document.

    Returns: read-only memory map of the ids, (N,) uint16 or uint32 (uint16 up to 65,536 tokens).
    """
    stop = text.characters if stop is None else stop
    folder = pathlib.Path(folder)
    source = {"text": text.sha256, "start": start, "stop": stop, "tokenizer": tokenizer.fingerprint,
              "documents": documents or None}
    dtype = "<u2" if tokenizer.vocabulary_size <= 1 << 16 else "<u4"
    found = _find(folder, name, source, dtype)
    if found is None:
        count = _write(text, tokenizer, folder / f"{name}.tokens", start, stop, dtype, report, documents)
        write_json(folder / f"{name}.json", {**source, "dtype": dtype, "tokens": count})
        found = _find(folder, name, source, dtype)
    return found


def _find(folder, name, source, dtype):
    """The memory map, or None if the files are absent, of another source, or incomplete."""
    path = folder / f"{name}.tokens"
    try:
        values = read_json(folder / f"{name}.json")
    except (OSError, ValueError):
        return None
    size = np.dtype(dtype).itemsize * values.get("tokens", -1)
    if any(values.get(key) != value for key, value in source.items()) or values.get("dtype") != dtype:
        return None
    if not path.is_file() or path.stat().st_size != size:
        return None
    return np.memmap(path, dtype, mode="r") if size else np.zeros(0, dtype)


def _write(text, tokenizer, path, start, stop, dtype, report, documents):
    count = done = 0
    options = {"add_special_tokens": False, **({"recognise_special_tokens": True} if documents else {})}
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        for pieces in _groups(read_pieces(text, start, stop) if stop > start else ()):
            for ids in tokenizer.encode_batch(pieces, **options):
                ids = np.asarray(ids, dtype)
                ids.tofile(file)
                count += len(ids)
            done += sum(map(len, pieces))
            if report is not None:
                report(done)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    return count


def _groups(pieces):
    group = []
    for piece in pieces:
        group.append(piece)
        if len(group) == PIECES:
            yield group
            group = []
    if group:
        yield group

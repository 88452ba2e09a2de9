"""Text files larger than memory: checked in one pass, then read piece by piece.

A text is one file or several, read one after the other as if they were one; `.gz` and `.xz` are unpacked on the way.
"""
import codecs
import contextlib
import dataclasses
import gzip
import hashlib
import lzma
import os
import pathlib
import zlib

READ_SIZE = 1 << 20     # bytes at a time
PIECE_SIZE = 1 << 16    # characters handed to a tokenizer at a time
OPENERS = {".gz": gzip.open, ".xz": lzma.open}
BYTE_ORDER_MARK = "\ufeff"


@dataclasses.dataclass(frozen=True)
class Text:
    """A text that was read through once and found sound.

    Attributes:
        paths: its files, in order.
        characters: how many it has.
        sha256: over the unpacked bytes of all files, so that a packed copy is the same text.
    """
    paths: tuple
    characters: int
    sha256: str


def check_text(paths):
    """Read a text once, to know its length and that all of it can be used.

    Args:
        paths: one path or several.

    Returns: Text.
    Raises: ValueError or OSError naming the file if it is missing, no file, empty, not UTF-8 (with the byte and the
        line), binary (holds a zero byte), or a damaged .gz or .xz.
    """
    paths = as_paths(paths)
    digest, characters = hashlib.sha256(), 0
    for path in paths:
        found = 0
        for data, piece in _decoded(path):
            digest.update(data)
            found += len(piece)
        if not found:
            raise ValueError(f"{path} is empty. Give a UTF-8 text file.")
        characters += found
    return Text(paths, characters, digest.hexdigest())


def read_lines(path, digest=None):
    """(number from 1, line without its end) of every line of a file, read a megabyte at a time.

    Args:
        path: UTF-8 text file; `.gz` and `.xz` are unpacked.
        digest: a `hashlib` object that is fed the unpacked bytes.

    Raises: as `check_text`, but for an empty file, which has no lines.
    """
    number, rest = 0, ""
    for data, piece in _decoded(pathlib.Path(path)):
        if digest is not None:
            digest.update(data)
        # Not `splitlines`, which also breaks at characters that editors do not count as line ends.
        *lines, rest = (rest + piece).split("\n")
        for line in lines:
            number += 1
            yield number, line.removesuffix("\r")
    if rest:
        yield number + 1, rest


def file_kind(path):
    """The ending that says what is in a file, for example ".csv", also of a packed one."""
    path = pathlib.Path(path)
    return (path.with_suffix("") if path.suffix in OPENERS else path).suffix.lower()


def split_point(characters, held_out):
    """Index of the first character of the held-out end: the last `held_out` (0 to 1) of a text.

    The same place as nanoGPT's preparation, which keeps `text[:int(n * 0.9)]`.
    """
    return int(characters * (1 - held_out))


def read_pieces(text, start=0, stop=None):
    """The characters from `start` to `stop` of a Text, as strings of about 65,000 characters.

    Pieces end after a line end where there is one, else after a blank, so that few words are cut. Where they end
    depends on the text and `start` only: the same text always gives the same pieces.

    Raises: ValueError if the files are shorter than they were when they were checked.
    """
    stop = text.characters if stop is None else stop
    buffer = ""
    for piece in _span(text.paths, start, stop):
        buffer += piece
        while len(buffer) > PIECE_SIZE:
            cut = _cut(buffer)
            yield buffer[:cut]
            buffer = buffer[cut:]
    if buffer:
        yield buffer


def _span(paths, start, stop):
    """Decoded strings that together are the characters from `start` to `stop`."""
    position = 0
    for path in paths:
        for _, piece in _decoded(path):
            if position < stop and position + len(piece) > start:
                yield piece[max(0, start - position):stop - position]
            position += len(piece)
            if position >= stop:
                return
    raise ValueError(f"{', '.join(map(str, paths))} changed while being read: {position} characters, {stop} expected.")


def _cut(buffer):
    for mark in ("\n", " "):
        place = buffer.rfind(mark, 0, PIECE_SIZE)
        if place >= 0:
            return place + 1
    return PIECE_SIZE


def _decoded(path):
    """(bytes, text) of a file, a megabyte at a time; the first error is told with its place."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, lines, first = 0, 1, True
    with _open(path) as file:
        while True:
            data = _read(file, path)
            zero = data.find(0)
            if zero >= 0:
                raise ValueError(f"{path} is binary: byte {offset + zero} is zero. Give a UTF-8 text file.")
            kept = len(decoder.getstate()[0])  # the first bytes of a character that the last read cut
            try:
                piece = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                place = offset - kept + error.start
                line = lines + error.object[:error.start].count(b"\n")
                raise ValueError(f"{path} is not UTF-8: byte {place} (line {line}) is "
                                 f"0x{error.object[error.start]:02x}. Convert it to UTF-8 first.") from None
            if first and piece:
                piece, first = piece.removeprefix(BYTE_ORDER_MARK), False
            yield data, piece
            if not data:
                return
            offset += len(data)
            lines += data.count(b"\n")


def _read(file, path):
    try:
        return file.read(READ_SIZE)
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged {pathlib.Path(path).suffix} file ({error}).") from error


@contextlib.contextmanager
def _open(path):
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    if not path.is_file():
        raise OSError(f"{path} is not a file. Give a UTF-8 text file.")
    with OPENERS.get(path.suffix, open)(path, "rb") as file:
        yield file


def as_paths(paths):
    """A tuple of paths from one or several. Raises ValueError for none, TypeError for something else than a path."""
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not paths:
        raise ValueError("No data file was given.")
    for path in paths:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"A data file is given by its path. Received: {path!r} ({type(path).__name__}).")
    return tuple(pathlib.Path(path) for path in paths)

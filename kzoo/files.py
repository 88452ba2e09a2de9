"""Writing so that nothing half-written stays behind, and reading with errors that name the file."""
import contextlib
import json
import math
import os
import pathlib
import shutil
import tempfile

try:
    import fcntl
except ImportError:  # Windows: a leftover is kept rather than taken from a process that may be alive
    fcntl = None


@contextlib.contextmanager
def atomic_folder(target, overwrite=False):
    """Give a temporary folder beside `target`; on success it becomes `target`, on any failure it goes.

    Args:
        target: the folder to make. Its parents are made when needed. A link to a folder is followed.
        overwrite: replace an existing folder; the old one stays until the new one is complete.

    Raises: FileExistsError if `target` exists and `overwrite` is False (raised before any work).
    """
    target = pathlib.Path(target)
    check_target(target, overwrite)
    if target.is_symlink():
        target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        with _held(work):
            yield work
            os.chmod(work, 0o777 & ~_umask())
            _flush_tree(work)
            _swap_in(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_target(target, overwrite=False):
    """Refuse an output folder that exists or cannot be written, before work is spent on it.

    What killed processes left there is cleaned up first: it may be the folder itself, moved aside.
    """
    target = pathlib.Path(target)
    place = target.resolve() if target.is_symlink() else target
    if os.access(place.parent, os.W_OK | os.X_OK):
        sweep_leftovers(place)
    if target.is_symlink() or target.exists():
        if not overwrite:
            raise FileExistsError(f"{target} already exists. Choose another folder, or pass overwrite=True "
                                  "(--overwrite).")
        if not target.is_dir():
            raise NotADirectoryError(f"{target} is a file, not a folder; it is not overwritten. Choose another name.")
        if pathlib.Path.cwd().is_relative_to(target.resolve()):
            raise ValueError(f"{target} holds the current folder; it is not overwritten. Choose another name.")
    parent = target.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise NotADirectoryError(f"{target} cannot be made: {parent} is a file, not a folder.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{target} cannot be made: no permission to write in {parent}.")


def sweep_leftovers(target):
    """Clean up after processes that were killed while they wrote `target`, a file or a folder.

    A folder that was moved aside, with its successor not yet in place, goes back; temporary files and folders go.
    """
    target = pathlib.Path(target)
    for leftover in sorted(target.parent.glob(f".{_escape(target.name)}.*.old")):
        if not _is_held(leftover):
            if target.exists() or not any(leftover.iterdir()):  # empty: killed before anything was moved aside
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                os.replace(leftover, target)
    for leftover in target.parent.glob(f".{_escape(target.name)}.*.partial"):
        if not _is_held(leftover):
            _remove(leftover)


def write_atomic(path, data):
    """Write text or bytes to a temporary name, flush it to the disk, and rename."""
    path = pathlib.Path(path)
    data = data.encode("utf-8") if isinstance(data, str) else data
    sweep_leftovers(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        with os.fdopen(handle, "wb") as file, _held(temporary):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        _flush(path.parent)
    except BaseException as error:
        if temporary is not None:
            _remove(temporary)
        if isinstance(error, OSError) and error.errno:
            error.filename, error.filename2 = str(path), None  # the temporary name would tell the reader nothing
        raise


def write_json(path, value):
    """`value` as indented JSON, written atomically."""
    write_atomic(path, json_text(value))


def json_text(value):
    """`value` as indented JSON, as files hold it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def read_json(path, kind=dict, strict=False):
    """The JSON object in a file, or the list where `kind` is list.

    Args:
        path: the file.
        kind: dict or list.
        strict: refuse what readers do not agree on: a name given twice, a number that is not finite.

    Raises: ValueError naming the file if it holds anything else.
    """
    path = pathlib.Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text, object_pairs_hook=without_repeats, parse_constant=_finite,
                           parse_float=_finite) if strict else json.loads(text)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number or a nesting without end
        raise ValueError(f"{path} is not valid JSON ({error}). The file is damaged or not what it should "
                         "be.") from error
    if not isinstance(value, kind):
        raise ValueError(f"{path} must hold a JSON {'object' if kind is dict else 'list'}. "
                         f"Received: {type(value).__name__}.")
    return value


def without_repeats(pairs):
    """The dict of (name, value) pairs, as a hook for `json`; ValueError for a name that is there twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen = set()
        raise ValueError(f"{next(name for name, _ in pairs if name in seen or seen.add(name))!r:.80} is there twice")
    return result


def _finite(text):
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a finite number")
    return value


def _swap_in(work, target):
    if not target.exists():
        os.replace(work, target)
        _flush(target.parent)
        return
    # Two renames: killed between them, the next sweep finds the old folder and puts it back.
    old = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    with _held(target):
        os.replace(target, old)  # an empty folder may be replaced by a folder
        try:
            os.replace(work, target)
        except BaseException:
            os.replace(old, target)
            raise
        gone = old.with_suffix(".partial")  # from here on it is not put back, also if half of it is gone
        os.replace(old, gone)
    _flush(target.parent)
    shutil.rmtree(gone, ignore_errors=True)


@contextlib.contextmanager
def _held(path):
    """Hold a lock on a file or folder; the system drops it when the process ends, however it ends."""
    if fcntl is None:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _is_held(path):
    """Whether a living process is at work on it. Process numbers would not tell: they are used again."""
    if fcntl is None:
        return True
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True  # finished meanwhile
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


def _flush_tree(folder):
    """Everything below `folder` to the disk, so that a power cut cannot leave renamed but empty files."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            _flush(path)
    _flush(folder)


def _flush(path):
    with contextlib.suppress(OSError):  # not every file system flushes folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path):
    path = pathlib.Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _escape(name):
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask

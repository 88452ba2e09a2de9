"""Writing so that nothing half-written stays behind, and reading with errors that name the file."""
import contextlib
import json
import os
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def atomic_folder(target, overwrite=False):
    """Give a temporary folder beside `target`; on success it becomes `target`, on any failure it goes.

    Args:
        target: the folder to make. Its parents are made when needed.
        overwrite: replace an existing folder; the old one stays until the new one is complete.

    Raises: FileExistsError if `target` exists and `overwrite` is False (raised before any work).
    """
    target = pathlib.Path(target)
    check_target(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep_leftovers(target)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", suffix=".partial", dir=target.parent))
    try:
        yield work
        os.chmod(work, 0o777 & ~_umask())
        _swap_in(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def check_target(target, overwrite=False):
    """Refuse an output folder that exists or cannot be written, before work is spent on it."""
    target = pathlib.Path(target)
    if target.is_symlink() or target.exists():
        if not overwrite:
            raise FileExistsError(f"{target} already exists. Choose another folder, or pass overwrite=True (--overwrite).")
        if not target.is_dir():
            raise NotADirectoryError(f"{target} is a file, not a folder; it is not overwritten. Choose another name.")
    parent = target.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise NotADirectoryError(f"{target} cannot be made: {parent} is a file, not a folder.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{target} cannot be made: no permission to write in {parent}.")


def sweep_leftovers(target):
    """Remove the temporary folders that killed runs left beside `target`."""
    target = pathlib.Path(target)
    for leftover in target.parent.glob(f".{target.name}.*.partial"):
        owner = leftover.name[len(target.name) + 2:].split(".")[0]
        if owner.isdigit() and not _is_running(int(owner)):
            shutil.rmtree(leftover, ignore_errors=True)


def write_atomic(path, data):
    """Write text or bytes to a temporary name, flush it to the disk, and rename."""
    path = pathlib.Path(path)
    data = data.encode("utf-8") if isinstance(data, str) else data
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.{os.getpid()}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_json(path, value):
    """`value` as indented JSON, written atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path):
    """The JSON object in a file. Raises ValueError naming the file if it holds anything else."""
    path = pathlib.Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}). The file is damaged or not what it should be.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object. Received: {type(value).__name__}.")
    return value


def _swap_in(work, target):
    if not target.exists():
        os.replace(work, target)
        return
    old = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.{os.getpid()}.", suffix=".partial", dir=target.parent))
    os.replace(target, old)  # an empty folder may be replaced by a folder
    try:
        os.replace(work, target)
    except BaseException:
        os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""The folder of a run: what is in it before, during and after training.

    training.json       the options, the data and, when finished, the results
    log.csv             one row an interval
    tokenizer files     in Hugging Face's form
    tokens/             the encoded data; removed when finished
    checkpoints/        the last two, and weights that may be needed at the end; removed when finished
    config.json  model.safetensors     the trained model, when finished

It is prepared under a temporary name and renamed, so a folder that is there can be trained in or resumed.
"""
import os
import pathlib
import shutil

import kzoo
from kzoo.files import check_target, read_json, write_json
from kzoo.saving import write_model

FORMAT = 1
RECORD, LOG, TOKENS, CHECKPOINTS = "training.json", "log.csv", "tokens", "checkpoints"


def check_out(out, resume, overwrite):
    """Whether the run in `out` is to be resumed (True) or a new one made (False).

    Raises: OSError or ValueError if `out` exists and neither was asked for, or is no run.
    """
    if resume and overwrite:
        raise ValueError("`resume` goes on with a run and `overwrite` replaces it; give one of them.")
    out = pathlib.Path(out)
    if not resume:
        check_target(out, overwrite)
    if out.is_dir() and not (out / RECORD).is_file() and (resume or any(out.iterdir())):
        raise ValueError(f"{out} is not a run: it holds no {RECORD}. "
                         + ("There is nothing to resume; leave out `resume` and choose another folder." if resume else
                            "It is not overwritten; choose another folder."))
    if resume and not out.exists():
        check_target(out)
    return resume and out.exists()


def prepare(folder, identity, options, files):
    """Make the folder's record, from which a run starts or is resumed.

    Args:
        identity: what a resumed run must give again.
        options: resolved `TrainOptions`.
        files: {"data": names of files, "valid": the same or None}.
    """
    (folder / CHECKPOINTS).mkdir()
    write_json(folder / RECORD, {"format": FORMAT, "kzoo": kzoo.__version__, "state": "running", "identity": identity,
                                 "resolved": options.to_dict(), "files": files})


def read_record(folder):
    """training.json. Raises ValueError if it is damaged or of another format."""
    record = read_json(folder / RECORD)
    if record.get("format") != FORMAT or not isinstance(record.get("identity"), dict):
        raise ValueError(f"{folder / RECORD} is of another format than {FORMAT}, or damaged.")
    return record


def check_same(folder, before, now, defaults):
    """Refuse to resume with anything that would give other weights.

    Args:
        before: the identity with which the run began.
        now: the identity with which it is to go on.
        defaults: values by part of an identity; what is newer than the run had its default then.

    Raises: ValueError naming what differs.
    """
    filled = {part: {**values, **before[part]} for part, values in defaults.items()
              if isinstance(before.get(part), dict)}
    before, now = _flat({**before, **filled}), _flat(now)
    different = [name for name in now if before.get(name) != now[name]]
    different += [name for name in before if name not in now]
    if different:
        told = "; ".join(f"{name} was {before.get(name)!r} and is now {now.get(name)!r}" for name in different[:3])
        more = f" (and {len(different) - 3} more)" if len(different) > 3 else ""
        raise ValueError(f"{folder} cannot be resumed: {told}{more}. Give the run's own options and data, or start "
                         "a new run in another folder.")


def finish(folder, model, record, results):
    """Put the trained model into the folder, mark it finished, and remove what only training needed."""
    staging = folder / ".model.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    write_model(model, staging)
    for path in sorted(staging.iterdir()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(path, folder / path.name)
    staging.rmdir()
    write_json(folder / RECORD, {**record, "state": "finished", "results": results})
    clean(folder)


def clean(folder):
    """Remove what a finished run does not need."""
    for name in (TOKENS, CHECKPOINTS):
        shutil.rmtree(folder / name, ignore_errors=True)


def _flat(values, prefix=""):
    """Nested dicts as one, with dotted names."""
    result = {}
    for name, value in values.items():
        if isinstance(value, dict):
            result.update(_flat(value, f"{prefix}{name}."))
        else:
            result[prefix + name] = value
    return result

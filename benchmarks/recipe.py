"""Benchmarks that train with `kzoo train` and measure with `kzoo evaluate`, in processes of their own, as users do.

A recipe is three dicts: the options of `kzoo train`, config fields for `--set`, and what `--toy` makes smaller.
"""
import json
import shutil
import subprocess
import sys

import bench

RUN = "run"  # name of the run in the folder of a script that trains one
TOY_FIELDS = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}


def train_command(preset, task, data, out, options, fields):
    """The words of `kzoo train`; `data` is one file or several, an option that is True stands alone."""
    data = data if isinstance(data, (list, tuple)) else [data]
    words = ["train", preset, "--task", task, "--data", *data, "--out", out, *option_words(options)]
    for name, value in fields.items():
        words += ["--set", f"{name}={value}"]
    return list(map(str, words))


def option_words(options):
    """The words of options by name; one that is True stands alone, a list or tuple is several words."""
    words = []
    for name, value in options.items():
        values = [] if value is True else value if isinstance(value, (list, tuple)) else [value]
        words += [f"--{name.replace('_', '-')}", *values]
    return words


def run_kzoo(words):
    """What a command prints as its result; its progress is shown."""
    command = [sys.executable, "-m", "kzoo", *words]
    return subprocess.run(command, check=True, env=bench.environment(), stdout=subprocess.PIPE, text=True).stdout


def train(preset, task, data, out, options, fields, resume=False):
    """What training.json says of a run.

    Args:
        resume: go on with the run in `out` if there is one; otherwise it is replaced.
    """
    finished = _record(out)
    if resume and finished is not None and finished.get("state") == "finished":
        bench.say(f"{out} is trained")
        return finished["results"]
    words = train_command(preset, task, data, out, {**options, "resume" if resume else "overwrite": True}, fields)
    bench.say(f"kzoo {' '.join(words)}")
    run_kzoo(words)
    return _record(out)["results"]


def evaluate(out, data, **options):
    """The metrics of `kzoo evaluate`; options by name, True for those that stand alone."""
    words = ["evaluate", out, "--data", *(data if isinstance(data, (list, tuple)) else [data]), "--json"]
    return json.loads(run_kzoo(list(map(str, [*words, *option_words(options)]))))


def keep(path, about, measure, machine, resume=False):
    """What `measure()` returns, kept in a file, so that a long benchmark can go on where only its results are left.

    Returns: dict of `results`, and of when and where they were measured: `date`, `machine`; and `about`.

    Args:
        path: of the file.
        about: dict of what the numbers depend on; what was kept of anything else is measured anew.
        measure: a function without arguments; its result must be one of JSON.
        machine: `machine.describe()`, kept with it.
        resume: take what was kept; otherwise it is measured anew, too.
    """
    about = json.loads(json.dumps(about))  # as it comes back
    if resume and path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["about"] == about:
            bench.say(f"{path} holds this, measured on {kept['date']}")
            return kept
        bench.say(f"{path} is of another recipe and is measured anew")
    results = measure()
    kept = {"about": about, "date": bench.today(), "machine": machine, "results": results}
    bench.rows.write_text(path, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return kept


def work(name, args):
    """The folder in which a benchmark works, empty unless it is resumed.

    Args:
        name: of the folder.
        args: of the script: `toy`, and `resume` where it can be.
    """
    folder = bench.WORK / f"{name}{'-toy' * args.toy}"
    resumable = hasattr(args, "resume") and not args.toy
    if resumable and not args.resume and (folder / RUN).exists():
        sys.exit(f"{folder} holds a run. Go on with it (--resume), or remove it first.")
    if not (resumable and args.resume):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def rows_of_runs(*results):
    """Rows on the training itself, from what training.json says of one run or several."""
    return [bench.rows.Row("optimizer steps", [each["steps"] for each in results]),
            bench.rows.Row("parameters", [results[0]["parameters"] / 1e6], "M"),
            bench.rows.Row("seconds of training, validations included", [each["seconds"] for each in results], "s")]


def _record(out):
    path = out / "training.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

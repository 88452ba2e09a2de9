"""`kzoo list` and `kzoo info`: what there is, and what a folder holds."""
import math
import pathlib

from kzoo.cli.options import add_folder, add_json, is_bundle
from kzoo.cli.output import counted, file_size, print_fields, print_json, print_table
from kzoo.files import read_json


def add_commands(add):
    parser = add("list", list_models, "list the presets that `kzoo train` can start from")
    add_json(parser)
    parser = add("info", info, "say what a run, a checkpoint or a bundle holds")
    add_folder(parser, "path", "PATH", "a run, a checkpoint folder or a bundle")
    add_json(parser)


def list_models(args):
    from kzoo import registry
    from kzoo.cli.start import start_backend

    start_backend()
    rows = registry.list_models()
    if args.json:
        print_json(rows)
        return
    print_table(["name", "family", "parameters>", "tasks", "source"],
                [(row["name"], row["family"], counted(row["parameters"]), ", ".join(row["tasks"]), row["source"])
                 for row in rows])


def info(args):
    found = describe(args.path)
    if args.json:
        print_json(found)
        return
    files = found.pop("files")
    artifacts = found.pop("artifacts", [])
    config = found.pop("config", {})
    found["parameters"] = counted(found["parameters"]) if found.get("parameters") else None
    print_fields({**found, "size": file_size(found["size"])})
    if config:
        print("\nconfig")
        print_fields({f"  {name}": value for name, value in config.items()})
    if artifacts:
        print()
        print_table(["runtime", "variant", "file", "size>", "verified"],
                    [(row["runtime"], row["variant"], row["file"], file_size(row["size"]),
                      row["verified"]) for row in artifacts])
    print()
    print_table(["file", "size>"], [(name, file_size(size)) for name, size in files.items()])


def describe(path):
    """What the folder `path` is: a dict ready for JSON.

    Keys: path, kind ("run", "unfinished run", "checkpoint" or "bundle"), family, task, tokenizer, parameters, size
    (bytes), config, files (name -> bytes), and for bundles artifacts (runtime, variant, file, size, verified).

    Raises: ValueError if `path` is none of the three, or is one and damaged.
    """
    folder = pathlib.Path(path)
    if is_bundle(folder):
        found = _describe_bundle(folder)
    elif (folder / "config.json").is_file():
        found = _describe_weights(folder)
    elif (folder / "training.json").is_file():
        found = _describe_unfinished(folder)
    else:
        raise ValueError(f"{path} is no run, checkpoint or bundle: it has neither config.json nor manifest.json.")
    files = {str(file.relative_to(folder)): file.stat().st_size for file in sorted(folder.rglob("*")) if file.is_file()}
    return {"path": str(path), **found, "size": sum(files.values()), "files": files}


def _describe_weights(folder):
    config = read_json(folder / "config.json")
    ours = config.get("kzoo")
    if isinstance(ours, dict):
        kind, family, task, fields = "run", ours.get("family"), ours.get("task"), ours.get("config", {})
    else:
        kind, family, task, fields = "checkpoint", config.get("model_type"), None, config
    return {"kind": kind, "family": family, "task": task, "tokenizer": _tokenizer(folder),
            "parameters": _count_parameters(folder), "config": fields}


def _describe_unfinished(folder):
    """A run whose training was interrupted or still goes on: it has no model yet."""
    identity = read_json(folder / "training.json").get("identity")
    if not isinstance(identity, dict):
        raise ValueError(f"{folder / 'training.json'} has no `identity`: the file is damaged.")
    return {"kind": "unfinished run", "family": None, "task": identity.get("task"), "tokenizer": _tokenizer(folder),
            "parameters": None, "config": identity.get("config") or {}}


def _describe_bundle(folder):
    from kzoo.export.artifact import read_bundle

    bundle = read_bundle(folder)
    bundle.check_opening()  # the tokenizer is read
    rows = [{"runtime": artifact.runtime, "variant": artifact.variant, "file": artifact.file,
             "size": sum(bundle.files[name][0] for name in artifact.files),
             "verified": bool(artifact.verification.get("passed"))} for artifact in bundle.artifacts]
    return {"kind": "bundle", "family": bundle.manifest.get("family"), "task": bundle.task,
            "tokenizer": _tokenizer(folder), "config": bundle.manifest.get("config", {}), "artifacts": rows}


def _tokenizer(folder):
    from kzoo.tokenizers import find_tokenizer, load_tokenizer

    if not find_tokenizer(folder):
        return None
    tokenizer = load_tokenizer(folder)
    return f"{tokenizer.kind}, {tokenizer.vocabulary_size} tokens"


def _count_parameters(folder):
    """Numbers stored in the safetensors files, read from their headers only; None before there are any."""
    from kzoo.tensor_files import TensorFolder

    try:
        tensors = TensorFolder(folder)
    except FileNotFoundError:
        return None
    return sum(math.prod(tensors.shape(name)) for name in tensors.names())

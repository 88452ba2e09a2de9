"""Make, save and load models: presets, kzoo's own folders, Hugging Face checkpoint folders."""
import dataclasses
import pathlib

from kzoo.checkpoint import check_sizes, hugging_face_config, load_weights, native_rows, save_weights
from kzoo.errors import unknown
from kzoo.files import atomic_folder, read_json, write_json
from kzoo.registry import families, get_family, get_preset, get_task_class
from kzoo.tasks.task import Task, build_task
from kzoo.tensor_files import SINGLE, TensorFolder

FORMATS = ("kzoo", "hugging_face")
FORMAT_VERSION = 1


def create(preset, task=None, tokenizer=None, dtype=None, **overrides):
    """A fresh model with random weights.

    Args:
        preset: a name of `kzoo.list_models()`, for example "gpt2-small".
        task: for example "text-generation"; None means the family's first.
        tokenizer: a `kzoo.tokenizers.Tokenizer` that travels with the model.
        dtype: a Keras dtype policy, for example "mixed_bfloat16"; None means the global one.
        overrides: config fields that differ from the preset's.

    Returns: a built `keras.Model` of the task.
    Raises: ValueError for an unknown preset, task or field, or an inconsistent value; TypeError for a wrong type.
    """
    family, row = get_preset(preset)
    config = row.config.replace(**overrides)
    check_vocabulary(config, tokenizer)
    return build_task(family, config, task, tokenizer=tokenizer, dtype=dtype)


def save(model, path, format="kzoo", overwrite=False):
    """Write a model to a folder: config, weights (safetensors), tokenizer. Atomic; never pickle.

    Args:
        model: a kzoo task model.
        path: the folder to make.
        format: "kzoo", or "hugging_face" for a folder that transformers loads.
        overwrite: replace an existing folder.

    Raises: ValueError if Hugging Face's class cannot hold the model; FileExistsError if the folder exists.
    """
    if format not in FORMATS:
        raise ValueError(unknown("format", format, FORMATS))
    if not isinstance(model, Task):
        raise TypeError(f"`model` must be a task model, as `kzoo.create` makes. Received: {type(model).__name__}.")
    config = config_dict(model, format)  # refuses what cannot be said before anything is written
    with atomic_folder(path, overwrite) as folder:
        write_model(model, folder, format, config)


def config_dict(model, format="kzoo"):
    """What config.json will hold."""
    if format == "hugging_face":
        return hugging_face_config(model)
    return {"kzoo": {"format": FORMAT_VERSION, "family": model.family.name, "task": model.task,
                     "config": model.config.to_dict()}}


def write_model(model, folder, format="kzoo", config=None):
    """The files of `save`, into a folder that exists."""
    folder = pathlib.Path(folder)
    family = model.family
    rows, prefix = (native_rows(model), "") if format == "kzoo" else (task_rows(family), family.hugging_face.prefix)
    save_weights(model, folder / SINGLE, rows, model.config.num_layers, prefix)
    write_json(folder / "config.json", config or config_dict(model, format))
    if model.tokenizer is not None:
        model.tokenizer.save(folder)


def load(path, task=None, dtype=None):
    """Open a kzoo run, or a Hugging Face checkpoint folder (config.json and safetensors, single or sharded).

    Args:
        path: the folder.
        task: choose the head; None means the one that was saved, or the family's first.
        dtype: a Keras dtype policy; None means the global one. Stored float16 and bfloat16 become float32 variables.

    Raises: FileNotFoundError and ValueError that name the file and what is wrong with it.
    """
    folder = pathlib.Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder. Give a kzoo run or a Hugging Face checkpoint folder.")
    if not (folder / "config.json").is_file():
        if (folder / "training.json").is_file():
            raise FileNotFoundError(f"{folder} is a run that is not finished: `kzoo train ... --resume` goes on with "
                                    "it.")
        raise FileNotFoundError(f"{folder} holds no config.json: it is neither a kzoo run nor a Hugging Face "
                                "checkpoint.")
    values = read_json(folder / "config.json")
    native = "kzoo" in values
    try:
        family, config, saved_task = _read_native(values["kzoo"]) if native else _read_hugging_face(values)
        get_task_class(saved_task, family)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from error
    tensors = TensorFolder(folder)
    check_sizes(config, tensors)
    model = build_task(family, config, task or saved_task, tokenizer=_load_tokenizer(folder), dtype=dtype)
    rows, prefix = (native_rows(model), "") if native else (task_rows(family), family.hugging_face.prefix)
    load_weights(model, tensors, rows, config.num_layers, prefix)
    return model


def task_rows(family):
    """The rows of the family's layout with variables as `variables_by_path` names them in a task model."""
    result = []
    for row in family.hugging_face.rows:
        changes = {}
        for field in ("variable", "layer"):
            if hasattr(row, field):
                changes[field] = f"{family.name}/{getattr(row, field)}"
        if hasattr(row, "layers"):
            changes["layers"] = tuple(f"{family.name}/{layer}" for layer in row.layers)
        result.append(dataclasses.replace(row, **changes))
    return tuple(result)


def check_vocabulary(config, tokenizer):
    """A tokenizer must not make ids that the embedding has no row for."""
    if tokenizer is not None and tokenizer.vocabulary_size > config.vocabulary_size:
        raise ValueError(f"The tokenizer has {tokenizer.vocabulary_size} tokens, the model's embedding "
                         f"{config.vocabulary_size} rows. Set `vocabulary_size` to at least the former.")


def _read_native(values):
    if not isinstance(values, dict) or values.get("format") != FORMAT_VERSION:
        raise ValueError(f"it is of another format version than {FORMAT_VERSION}.")
    missing = [name for name in ("family", "task", "config") if name not in values]
    if missing:
        raise ValueError(f"it lacks {missing[0]!r}.")
    family = get_family(_text(values, "family"))
    return family, family.config.from_dict(values["config"]), _text(values, "task")


def _read_hugging_face(values):
    known = {family.hugging_face.model_type: family for family in families().values()}
    kind = _text(values, "model_type")
    if kind not in known:
        raise ValueError(unknown("model_type", kind, known))
    family = known[kind]
    return family, family.hugging_face.read_config(family.config, values), family.tasks[0]


def _text(values, name):
    if not isinstance(values.get(name), str):
        raise TypeError(f"`{name}` must be a text. Received: {values.get(name)!r}.")
    return values[name]


def _load_tokenizer(folder):
    from kzoo.tokenizers import find_tokenizer, load_tokenizer

    return load_tokenizer(folder) if find_tokenizer(folder) else None

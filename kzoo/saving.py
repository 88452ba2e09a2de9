"""Make, save and load models: presets, kzoo's own folders, Hugging Face checkpoint folders."""
import pathlib
import warnings
from typing import NamedTuple

from kzoo.checkpoint import check_sizes, load_weights, native_table, save_weights, variables_by_path
from kzoo.errors import unknown
from kzoo.files import atomic_folder, read_json, write_json
from kzoo.hugging_face import find_layout, hugging_face_config, layout_of, read_settings
from kzoo.registry import families, get_family, get_preset, get_task_class
from kzoo.sentence_transformers import check_pooling, read_pooling, write_pooling
from kzoo.tasks.task import Task, build_task
from kzoo.tensor_files import SINGLE, TensorFolder

FORMATS = ("kzoo", "hugging_face")
FORMAT_VERSION = 1


def create(preset, task=None, tokenizer=None, dtype=None, **overrides):
    """A fresh model with random weights.

    Args:
        preset: a name of `kzoo.list_models()`, for example "gpt2-small".
        task: for example "text-generation"; None means the family's first.
        tokenizer: a `kzoo.tokenizers.Tokenizer` that travels with the model; its special tokens go into the config
            where that names them.
        dtype: a Keras dtype policy, for example "mixed_bfloat16"; None means the global one.
        overrides: config fields that differ from the preset's, and settings of the task (`labels` of a classifier).

    Returns: a built `keras.Model` of the task.
    Raises: ValueError for an unknown preset, task or field, or an inconsistent value; TypeError for a wrong type.
    """
    family, row = get_preset(preset)
    names = get_task_class(task or family.tasks[0], family).setting_names
    settings = {name: overrides.pop(name) for name in names if name in overrides}
    known = {} if tokenizer is None else special_ids(tokenizer)
    known = {field: known[field] for field in known if field in family.config.field_names()}
    config = row.config.replace(**{**known, **overrides})
    check_vocabulary(config, tokenizer)
    return build_task(family, config, task, tokenizer=tokenizer, dtype=dtype, **settings)


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
        if "pooling" in model.setting_names:
            check_pooling(model)
        return hugging_face_config(model)
    values = {"format": FORMAT_VERSION, "family": model.family.name, "task": model.task,
              "config": model.config.to_dict()}
    settings = model.settings()
    return {"kzoo": {**values, "settings": settings} if settings else values}


def write_model(model, folder, format="kzoo", config=None):
    """The files of `save`, into a folder that exists."""
    folder = pathlib.Path(folder)
    table = native_table(model) if format == "kzoo" else layout_of(model).table(model)
    save_weights(model, folder / SINGLE, table)
    write_json(folder / "config.json", config or config_dict(model, format))
    if format == "hugging_face" and "pooling" in model.setting_names:
        write_pooling(folder, model)
    if model.tokenizer is not None:
        model.tokenizer.save(folder)


def load(path, task=None, dtype=None, **overrides):
    """Open a kzoo run, or a Hugging Face checkpoint folder (config.json and safetensors, single or sharded).

    What the task adds to a backbone may be missing from the folder, if it was saved for another task or its settings
    are to be others. Such weights are drawn anew, a warning names them, and `model.newly_initialized` lists them.

    Args:
        path: the folder.
        task: choose the head; None means the one that was saved, or the family's first.
        dtype: a Keras dtype policy; None means the global one. Stored float16 and bfloat16 become float32 variables.
        overrides: settings of the task, such as `labels`, and config fields, such as `dropout` or
            `gradient_checkpointing`, instead of those that were saved. A field that sizes a weight is refused; one that
            the weights were trained with, such as `num_heads`, is for you to answer for.

    Raises: FileNotFoundError and ValueError that name the file and what is wrong with it, ValueError or TypeError for a
        bad override.
    """
    stored = read_stored(path)
    family, layout = stored.family, stored.layout
    task = task or stored.task or family.tasks[0]
    names = get_task_class(task, family).setting_names
    settings = {name: overrides.pop(name) for name in names if name in overrides}
    for name in overrides:
        if name not in family.config.field_names():
            raise ValueError(unknown(f"setting of the task {task!r} or field of its config", name,
                                     (*names, *family.config.field_names())))
    config = stored.config.replace(**overrides)
    saved = stored.settings_of(task)
    if layout is not None and "pooling" in names:
        saved = {**saved, **read_pooling(stored.folder)}
    check_sizes(config, stored.tensors)
    model = build_task(family, config, task, tokenizer=_load_tokenizer(stored.folder), dtype=dtype,
                       **{**saved, **settings})
    new_head = task != stored.task or any(getattr(model, name) != saved.get(name) for name in settings)
    if layout is None:
        table = native_table(model, new_head, stored.tensors.names())
    else:
        table = layout.table(model, stored.task, new_head)
    fresh, variables = load_weights(model, stored.tensors, table), variables_by_path(model)
    # What is frozen takes no part in the answers: it is only kept for the next one to load.
    model.newly_initialized = tuple(path for path in fresh if variables[path].trainable)
    if model.newly_initialized:
        warnings.warn(f"{stored.folder} holds no weights for {', '.join(model.newly_initialized)}: the head of "
                      f"{task!r} is newly initialised. Train the model before its predictions are used.",
                      stacklevel=2)
    return model


class Stored(NamedTuple):
    """What a folder says of its model.

    Attributes:
        folder: pathlib.Path.
        values: the dict in config.json.
        tensors: a `TensorFolder`.
        family: `Family`.
        layout: `Layout` of a Hugging Face folder, None of kzoo's own.
        config: the family's config.
        task: the one that was saved, or None.
        settings: of that task; empty for a Hugging Face folder, whose config.json has them in its own form.
    """
    folder: pathlib.Path
    values: dict
    tensors: TensorFolder
    family: object
    layout: object
    config: object
    task: str | None
    settings: dict

    def settings_of(self, task):
        """What was saved of a task's settings, such as its labels; {} of any task but the one that was saved."""
        if task != self.task:
            return {}
        return self.settings if self.layout is None else read_settings(
            self.values, get_task_class(task, self.family).setting_names)


def read_stored(path):
    """`Stored` of a folder; no weight is read. Raises: as `load`."""
    folder = pathlib.Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder. Give a kzoo run or a Hugging Face checkpoint folder.")
    if not (folder / "config.json").is_file():
        if (folder / "training.json").is_file():
            raise FileNotFoundError(f"{folder} is a run that is not finished: `kzoo train ... --resume` goes on with "
                                    "it.")
        raise FileNotFoundError(f"{folder} holds no config.json: it is neither a kzoo run nor a Hugging Face "
                                "checkpoint.")
    values = _read_config(folder)
    tensors = TensorFolder(folder)
    layout, settings = None, {}
    try:
        if "kzoo" in values:
            family, config, task, settings = _read_native(values["kzoo"])
        else:
            family, layout = find_layout(families(), values)
            config, task = layout.read_config(family.config, values, tensors), layout.saved_task(values)
        get_task_class(task or family.tasks[0], family)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from error
    return Stored(folder, values, tensors, family, layout, config, task, settings)


def _read_config(folder):
    """The dict in config.json, and what it lacks of the ids that Hugging Face keeps in generation_config.json.

    How to generate (beams, lengths) is the caller's choice and is not read.
    """
    values = read_json(folder / "config.json")
    if "kzoo" in values or not (folder / "generation_config.json").is_file():
        return values
    generation = read_json(folder / "generation_config.json")
    return values | {name: value for name, value in generation.items()
                     if name.endswith("_token_id") and values.get(name) is None}


def special_ids(tokenizer):
    """Config field -> the id that a tokenizer has for it; without the fields it says nothing of.

    What ends a text also fills rows where nothing else does, and parts texts where nothing else does; a decoder starts
    from what begins a text, or fills.
    """
    pad = tokenizer.eos_id if tokenizer.pad_id is None else tokenizer.pad_id
    start = pad if tokenizer.bos_id is None else tokenizer.bos_id
    separator = tokenizer.eos_id if tokenizer.sep_id is None else tokenizer.sep_id
    known = {"pad_id": pad, "eos_id": tokenizer.eos_id, "decoder_start_id": start, "sep_id": separator}
    return {field: index for field, index in known.items() if index is not None}


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
    family, task = get_family(_text(values, "family")), _text(values, "task")
    settings = values.get("settings", {})
    if not isinstance(settings, dict):
        raise TypeError(f"`settings` must be a dict. Received: {settings!r}.")
    names = get_task_class(task, family).setting_names
    for name in settings:
        if name not in names:
            raise ValueError(unknown(f"setting of the task {task!r}", name, names))
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return family, family.config.from_dict(values["config"]), task, settings


def _text(values, name):
    if not isinstance(values.get(name), str):
        raise TypeError(f"`{name}` must be a text. Received: {values.get(name)!r}.")
    return values[name]


def _load_tokenizer(folder):
    from kzoo.tokenizers import find_tokenizer, load_tokenizer

    return load_tokenizer(folder) if find_tokenizer(folder) else None

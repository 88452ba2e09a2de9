"""Hugging Face checkpoint folders: how a family's config.json and tensors are called there."""
import dataclasses
from collections.abc import Callable

from kzoo.errors import unknown
from kzoo.weight_table import WeightTable, with_prefix


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a family's checkpoints look in Hugging Face folders.

    A family may have several: models that differ in a few switches have classes of their own there.

    Attributes:
        model_type: the value in config.json.
        architectures: task -> the class name there.
        prefix: what stands before the backbone's names in task models; absent in bare ones, so optional on loading.
        fields: (ours, theirs) config fields.
        values: our field -> {their value: our value}; the first of theirs is the one written.
        fixed: our fields that their class has no room for, and the only value it means.
        extra: their fields, written as a second name of ours.
        rows: the weight table of the backbone, without prefix; variables as the backbone names them. Where variants
            store different tensors, a function of the config that gives it.
        heads: task -> rows of what the task adds, or such a function; stored names and variables in full, the latter
            as `kzoo.checkpoint.variables_by_path` gives them.
        other_architectures: class name there -> the task it is loaded for.
        constants: their fields that always have one value.
        renames: (old, new) pieces of stored names, for files of older versions.
        read, write: for what fields and values cannot say. `read(ours, theirs, tensors)` changes the dict of our fields
            in place; `write(theirs, config)` that of theirs. `tensors` is None where only a config is read.
    """
    model_type: str
    architectures: dict
    prefix: str
    fields: tuple
    rows: tuple | Callable
    heads: dict = dataclasses.field(default_factory=dict)
    values: dict = dataclasses.field(default_factory=dict)
    fixed: dict = dataclasses.field(default_factory=dict)
    extra: dict = dataclasses.field(default_factory=dict)
    other_architectures: dict = dataclasses.field(default_factory=dict)
    constants: dict = dataclasses.field(default_factory=lambda: {"tie_word_embeddings": True})
    renames: tuple = ()
    read: Callable | None = None
    write: Callable | None = None

    def read_config(self, config_class, values, tensors=None):
        """The family's config from the dict in config.json."""
        ours = dict(self.fixed)
        for name, theirs in self.fields:
            if theirs not in values:
                continue  # a file may leave out what is the default
            value = values[theirs]
            if name in self.values:
                if not isinstance(value, str) or value not in self.values[name]:
                    raise ValueError(f"`{theirs}` in config.json is {value!r}; "
                                     f"supported are: {', '.join(self.values[name])}.")
                value = self.values[name][value]
            ours[name] = value
        if self.read is not None:
            self.read(ours, values, tensors)
        return config_class.from_dict(ours)

    def saved_task(self, values):
        """The task of the class that config.json names, or None for a bare backbone or an unknown class."""
        names = {name: task for task, name in reversed(self.architectures.items())}  # the first task of a class counts
        names.update(self.other_architectures)
        written = values.get("architectures")
        return next((names[name] for name in written if name in names), None) if isinstance(written, list) else None

    def misfit(self, config):
        """The field whose value their class has no room or no word for, or None."""
        for name, value in self.fixed.items():
            if getattr(config, name) != value:
                return name
        return next((name for name, words in self.values.items() if getattr(config, name) not in words.values()), None)

    def write_config(self, config, task):
        """The dict for config.json. Raises ValueError where their class cannot say what the config says."""
        name = self.misfit(config)
        if name is not None:
            raise ValueError(f"Hugging Face's {self.model_type!r} has no room for `{name}`="
                             f"{getattr(config, name)!r}; keep it in the kzoo format.")
        result = {"architectures": [self.architectures[task]], "model_type": self.model_type, "dtype": "float32",
                  **self.constants}
        for name, theirs in self.fields:
            value = getattr(config, name)
            if name in self.values:
                value = next(word for word, meaning in self.values[name].items() if meaning == value)
            result[theirs] = value
        result.update({theirs: getattr(config, ours) for theirs, ours in self.extra.items()})
        if self.write is not None:
            self.write(result, config)
        return result

    def table(self, model, saved_task=None, new_head=False):
        """The weight table for a task model.

        Args:
            saved_task: the task whose head the file holds, if known.
            new_head: the model's head may be missing from the file.
        """
        family, task, config = model.family.name, model.task, model.config
        heads = {name: _rows_for(rows, config) for name, rows in self.heads.items()}
        others = [row for other, rows in heads.items() if other != task for row in rows]
        saved_head = () if saved_task in (None, task) else heads.get(saved_task, ())
        rows = with_prefix(_rows_for(self.rows, config), self.prefix, f"{family}/")
        return WeightTable(rows, config.layer_counts(), head=heads.get(task, ()), prefix=self.prefix, new_head=new_head,
                           others=tuple(others), saved_head=saved_head, renames=self.renames)


def _rows_for(rows, config):
    return rows(config) if callable(rows) else rows


def find_layout(families, values):
    """(family, layout) for the dict in config.json.

    Raises: ValueError for a `model_type` that no family knows.
    """
    known = {layout.model_type: (family, layout) for family in families.values() for layout in family.layouts}
    kind = values.get("model_type")
    if not isinstance(kind, str):
        raise TypeError(f"`model_type` must be a text. Received: {kind!r}.")
    if kind not in known:
        raise ValueError(unknown("model_type", kind, known))
    return known[kind]


def layout_of(model):
    """The layout that can say what the model's config says; the family's first if none can."""
    layouts = [layout for layout in model.family.layouts if model.task in layout.architectures]
    if not layouts:
        raise ValueError(f"Hugging Face has no class for {model.family.name!r} and the task {model.task!r}; keep it in "
                         "the kzoo format.")
    return next((layout for layout in layouts if layout.misfit(model.config) is None), layouts[0])


def hugging_face_config(model):
    """config.json of `model` in Hugging Face's form, with its labels and the token ids its tokenizer knows."""
    values = layout_of(model).write_config(model.config, model.task)
    tokenizer = getattr(model, "tokenizer", None)
    for name in ("bos", "eos", "pad"):  # what the layout wrote is the model's own, and comes first
        known = None if tokenizer is None else getattr(tokenizer, f"{name}_id")
        if values.get(f"{name}_token_id") is None:
            values[f"{name}_token_id"] = known
    labels = model.settings().get("labels")
    if labels is not None:
        values["id2label"] = {str(number): label for number, label in enumerate(labels)}
        values["label2id"] = {label: number for number, label in enumerate(labels)}
    return values


def read_settings(values, names):
    """A task's settings from config.json, as far as Hugging Face's form has them."""
    if "labels" not in names:
        return {}
    labels = values.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})  # a file leaves out what is the default
    try:
        numbered = {int(number): label for number, label in labels.items()}
        return {"labels": tuple(numbered[number] for number in range(len(numbered)))}
    except (AttributeError, KeyError, ValueError):
        raise ValueError(f"`id2label` must number the labels from 0. Received: {labels!r}.") from None

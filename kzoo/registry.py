"""Which families and presets exist, and which class serves each task."""
import dataclasses
import importlib

from kzoo.errors import unknown


@dataclasses.dataclass(frozen=True)
class Preset:
    """One row of a family's table.

    Attributes:
        config: the family's config.
        parameters: number of weights, as the source counts them (a tied embedding once).
        source: where the sizes come from.
    """
    config: object
    parameters: int
    source: str


@dataclasses.dataclass(frozen=True)
class Family:
    """Everything shared code needs to know of a family.

    Attributes:
        name: as users write it, for example "gpt2".
        config: its Config class.
        backbone: its keras.Model class, built from a config.
        presets: name -> Preset.
        tasks: the tasks it can serve; the first is the default.
        layouts: the `kzoo.hugging_face.Layout`s that load and save its Hugging Face folders.
        task_fields: task -> config fields that it decides, with their values.
    """
    name: str
    config: type
    backbone: type
    presets: dict
    tasks: tuple
    layouts: tuple
    task_fields: dict = dataclasses.field(default_factory=dict)


# Task -> module and class, resolved on first use so that naming a task imports no backend.
TASKS = {
    "text-generation": ("kzoo.tasks.causal_lm", "CausalLM"),
    "fill-mask": ("kzoo.tasks.masked_lm", "MaskedLM"),
    "text-classification": ("kzoo.tasks.sequence_classifier", "SequenceClassifier"),
    "token-classification": ("kzoo.tasks.token_classifier", "TokenClassifier"),
    "question-answering": ("kzoo.tasks.question_answerer", "QuestionAnswerer"),
    "translation": ("kzoo.tasks.seq2seq_lm", "Seq2SeqLM"),
    "summarization": ("kzoo.tasks.seq2seq_lm", "Seq2SeqLM"),
    "feature-extraction": ("kzoo.tasks.feature_extractor", "FeatureExtractor"),
}

_FAMILIES = {}


def register(family):
    """Make a family known; its file calls this once, at its end.

    Raises: ValueError if the name, or the name of a preset, belongs to a family of another file.
    """
    for known in _FAMILIES.values():
        if known.config.__module__ == family.config.__module__:
            continue  # the file was loaded again, as notebooks do
        taken = {known.name, *known.presets} & {family.name, *family.presets}
        if taken:
            raise ValueError(f"{', '.join(sorted(taken))} is registered already, by {known.config.__module__}.")
    _FAMILIES[family.name] = family
    return family


def families():
    """name -> Family, in order of registration."""
    importlib.import_module("kzoo.models")  # registers them
    return dict(_FAMILIES)


def get_family(name):
    known = families()
    if name not in known:
        raise ValueError(unknown("family", name, known))
    return known[name]


def get_preset(name):
    """(Family, Preset) of a preset name."""
    rows = {preset: (family, row) for family in families().values() for preset, row in family.presets.items()}
    if name not in rows:
        raise ValueError(unknown("preset", name, rows))
    return rows[name]


def get_task_class(task, family=None):
    """The model class that serves `task`; with a `family`, also check that the family can."""
    if task not in TASKS:
        raise ValueError(unknown("task", task, TASKS))
    if family is not None and task not in family.tasks:
        others = ", ".join(name for name, known in families().items() if task in known.tasks)
        raise ValueError(f"Family {family.name!r} cannot serve the task {task!r}. It can: {', '.join(family.tasks)}. "
                         f"{task!r} is served by: {others or 'none'}.")
    module, name = TASKS[task]
    return getattr(importlib.import_module(module), name)


def list_models():
    """One dict a preset: name, family, parameters, tasks, source."""
    return [{"name": name, "family": family.name, "parameters": row.parameters, "tasks": list(family.tasks),
             "source": row.source} for family in families().values() for name, row in family.presets.items()]

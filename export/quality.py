"""What a quantised file costs on data: the task's metric beside that of the live model."""
from typing import NamedTuple

from kzoo.errors import unknown


class Metric(NamedTuple):
    """How a task is judged.

    Attributes:
        name: a key of what `kzoo.evaluation.evaluate` returns.
        limit: most that it may get worse.
        relative: the limit is a share of the model's own value, which is then better the smaller it is.
    """
    name: str
    limit: float
    relative: bool = False


METRICS = {
    "text-generation": Metric("perplexity", 0.02, relative=True),
    "fill-mask": Metric("perplexity", 0.02, relative=True),
    "text-classification": Metric("accuracy", 0.01),
    "token-classification": Metric("f1", 0.01),
    "question-answering": Metric("f1", 1.0),
    "translation": Metric("bleu", 1.0),
    "summarization": Metric("rougeL", 0.01),
    "feature-extraction": Metric("accuracy", 0.01),
}


def cutting(task):
    """Options for `evaluate`: texts that are longer than the model are no reason to stop while one exports."""
    from kzoo.evaluation import options_of

    return {"truncate": True} if "truncate" in options_of(task) else {}


class Reference(NamedTuple):
    """What quantised files are held to.

    Attributes:
        data: paths, as `kzoo.evaluation.evaluate` takes them.
        options: of that function.
        value: of the task's metric, by the live model.
        limit: most that a file may be worse.
    """
    data: tuple
    options: dict
    value: float
    limit: float


def measure_reference(model, data, limit=None, options=None):
    """A `Reference`, by evaluating the live model.

    Args:
        model: a task model.
        data: file, or several.
        limit: None means that of `METRICS`.
        options: dict for `evaluate`; texts that are too long are cut unless it says otherwise.

    Raises: as `evaluate`; ValueError for a limit below 0.
    """
    if model.task not in METRICS:
        raise ValueError(unknown("task", model.task, METRICS))
    metric = METRICS[model.task]
    limit = metric.limit if limit is None else limit
    if not limit >= 0:
        raise ValueError(f"`eval_limit` must be at least 0. Received: {limit!r}.")
    paths = tuple(data) if isinstance(data, (list, tuple)) else (data,)
    options = {**cutting(model.task), **(options or {})}
    return Reference(tuple(map(str, paths)), options, _measure(model, paths, options), limit)


def check_quality(session, reference):
    """(check, value, limit, passed, note) for a verification: by how much a session is worse than the model."""
    metric = METRICS[session.task]
    value = _measure(session, reference.data, reference.options)
    loss = value / reference.value - 1 if metric.relative else reference.value - value
    return (f"{metric.name} on the data given", max(loss, 0.0), reference.limit, loss <= reference.limit,
            f"{value:.4g}, the model's is {reference.value:.4g}; "
            f"{'share' if metric.relative else 'points'} that it is worse")


def _measure(model, paths, options):
    from kzoo.evaluation import evaluate

    return evaluate(model, list(paths) if len(paths) > 1 else paths[0], **options)[METRICS[model.task].name]

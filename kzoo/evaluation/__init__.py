"""How good a model is: the metrics of its task, by the field's own libraries."""
import importlib
import inspect
import pathlib

from kzoo.errors import unknown
from kzoo.evaluation.language_modeling import WindowScorer, metrics
from kzoo.evaluation.stored_predictions import evaluate_predictions
from kzoo.tasks.options import GenerationOptions

__all__ = ["WindowScorer", "evaluate", "evaluate_predictions", "metrics"]

# Task -> module and function that measures it; the function's keyword arguments are the options of the task.
TASKS = {
    "text-generation": ("language_modeling", "measure_text"),
    "fill-mask": ("masked_lm", "measure_masks"),
    "text-classification": ("answering", "measure_labels"),
    "token-classification": ("answering", "measure_tags"),
    "question-answering": ("answering", "measure_answers"),
    "translation": ("answering", "measure_translations"),
    "summarization": ("answering", "measure_summaries"),
    "feature-extraction": ("answering", "measure_features"),
}


def evaluate(model, data, *, runtime=None, variant=None, **options):
    """Measure a model on data.

    Args:
        model: a model with a tokenizer, an open session of a bundle, or the folder of a run, checkpoint or bundle.
        data: file, or several that are read as one (two parallel texts for translation); the forms are those that
            `kzoo.train` reads for the model's task.
        runtime, variant: which file of a bundle to open; see `kzoo.export.open_bundle`.
        options: of the task: the keyword arguments of its function in `TASKS`.

    Returns: dict of plain numbers. By task:
        text-generation: loss (mean, in nats a token), perplexity, bits_per_character, tokens, characters.
        fill-mask: loss, perplexity, accuracy, hidden_tokens.
        text-classification, and feature-extraction by the label of the nearest other text: accuracy, macro_f1,
            matthews (0 to 1), texts.
        token-classification: precision, recall, f1, accuracy (0 to 1), words.
        question-answering: exact_match, f1 (0 to 100), questions, unanswered.
        translation: bleu, chrf, tokenized_bleu, exact_match (0 to 100), brevity_penalty (0 to 1), texts.
        summarization: rouge1, rouge2, rougeL (0 to 1), texts.
    Raises: ValueError or OSError for data that cannot be used, a model without a tokenizer, an option that the task
        does not have; ImportError that names the extra where a library is missing.
    """
    model = _open(model, runtime, variant)
    if model.tokenizer is None:
        raise ValueError("The model has no tokenizer, so it cannot read text. Set `model.tokenizer`.")
    if model.task not in TASKS:
        raise ValueError(unknown("task", model.task, TASKS))
    measure = _measure(model.task)
    names = options_of(model.task)
    for name in options:
        if name not in names:
            raise ValueError(unknown(f"option of the task {model.task!r}", name, names))
    return measure(model, data, **options)


def options_of(task):
    """The names of the options with which a task is measured; where text is generated, also how."""
    parameters = inspect.signature(_measure(task)).parameters.values()
    generating = any(each.kind is each.VAR_KEYWORD for each in parameters)
    names = tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY)
    return names + (GenerationOptions.field_names() if generating else ())


def _measure(task):
    module, name = TASKS[task]
    return getattr(importlib.import_module(f"kzoo.evaluation.{module}"), name)


def _open(model, runtime, variant):
    if not isinstance(model, (str, pathlib.PurePath)):
        if runtime is not None or variant is not None:
            raise ValueError("`runtime` and `variant` choose a file of a bundle; the model is open already.")
        return model
    if (pathlib.Path(model) / "manifest.json").is_file():
        from kzoo.export import open_bundle

        choices = {"runtime": runtime, "variant": variant}
        return open_bundle(model, **{name: value for name, value in choices.items() if value is not None})
    if runtime is not None or variant is not None:
        raise ValueError(f"`runtime` and `variant` choose a file of a bundle; {model} holds no manifest.json.")
    from kzoo.saving import load

    return load(model)

"""A Longformer that begins as a RoBERTa: what it knows of short texts, read over long ones."""
import numpy as np

from kzoo.checkpoint import variables_by_path
from kzoo.registry import get_family
from kzoo.saving import special_ids
from kzoo.tasks.task import Task, build_task


def lengthen(model, max_sequence_length=4096, window_size=257, **fields):
    """A Longformer with the weights of a RoBERTa or BERT.

    Its positions repeat those of the short model until the length is reached, and global tokens begin with copies of
    the projections for all tokens. Where a text fits into one window it computes what the short model does; on longer
    ones it wants some more pretraining.

    Args:
        model: a task model of the family "bert".
        max_sequence_length: longest input, in tokens.
        window_size: see `kzoo.models.LongformerConfig`; a number, or one for each layer.
        fields: further fields of that config.

    Returns: a task model of the family "longformer", for the same task, with the same tokenizer and settings.
    Raises: ValueError if the model is of another family, or longer already.
    Source: Beltagy et al. 2020, section 5 (arXiv 2004.05150).
    """
    if not isinstance(model, Task) or model.family.name != "bert":
        raise ValueError("`model` must be a task model of the family 'bert', such as a RoBERTa. Received: "
                         f"{model.family.name if isinstance(model, Task) else type(model).__name__}.")
    if max_sequence_length < model.config.max_sequence_length:
        raise ValueError(f"`max_sequence_length` must be at least the model's, {model.config.max_sequence_length}. "
                         f"Received: {max_sequence_length}.")
    known = {} if model.tokenizer is None else special_ids(model.tokenizer)
    fields = {"max_sequence_length": max_sequence_length, "window_size": window_size,
              **{name: known[name] for name in ("sep_id",) if name in known}, **fields}
    family = get_family("longformer")
    short = {name: value for name, value in model.config.to_dict().items() if name in family.config.field_names()}
    config = family.config(**short | fields)
    result = build_task(family, config, model.task, model.dtype_policy, tokenizer=model.tokenizer, **model.settings())
    short, offset = variables_by_path(model), config.position_offset
    for path, variable in variables_by_path(result).items():
        values = np.asarray(short[path.replace(f"{family.name}/", "bert/", 1).replace("_global/", "/")])
        if path.endswith("position_embedding/embeddings"):
            rows = np.resize(values[offset:], (max_sequence_length, values.shape[1]))  # over and over
            values = np.concatenate([values[:offset], rows])
        variable.assign(values)
    return result

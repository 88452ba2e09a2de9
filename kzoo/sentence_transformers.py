"""How features are pooled, in the files that sentence-transformers keeps beside a checkpoint: modules.json and more."""
from kzoo.files import read_json, write_json

MODULES = "modules.json"
# Kinds of modules, by the last word of their class.
TRANSFORMER, POOLING, NORMALIZE = "Transformer", "Pooling", "Normalize"
MODES = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}


def read_pooling(folder):
    """Settings of feature extraction from a folder; none where it is not sentence-transformers'.

    Returns: dict with `pooling` and `normalize`, or an empty one.
    Raises: ValueError naming the file for modules or ways of pooling that features do not have here.
    """
    path = folder / MODULES
    if not path.is_file():
        return {}
    rows = read_json(path, list)
    if not all(isinstance(row, dict) and isinstance(row.get("type"), str) for row in rows):
        raise ValueError(f"{path} must list modules with a `type`. Received: {rows!r:.200}.")
    kinds = [row["type"].rsplit(".", 1)[-1] for row in rows]
    if kinds not in ([TRANSFORMER, POOLING], [TRANSFORMER, POOLING, NORMALIZE]):
        raise ValueError(f"{path} joins the modules {', '.join(kinds)}; supported are: {TRANSFORMER}, {POOLING} and "
                         f"{NORMALIZE}.")
    path = folder / str(rows[1].get("path", "")) / "config.json"
    values = read_json(path)
    chosen = [name for name, value in values.items() if name.startswith("pooling_mode_") and value is True]
    chosen = chosen or [str(values[name]) for name in ("pooling_mode",) if name in values]  # since version 6
    for pooling, name in MODES.items():
        if chosen in ([name], [pooling]):
            return {"pooling": pooling, "normalize": NORMALIZE in kinds}
    raise ValueError(f"{path} pools by {', '.join(chosen) or 'nothing'}; supported is one of: "
                     f"{', '.join(MODES.values())}.")


def write_pooling(folder, model):
    """The files that `read_pooling` reads, for a feature extractor.

    Raises: ValueError for what they have no room for.
    """
    check_pooling(model)
    kinds = [TRANSFORMER, POOLING] + [NORMALIZE] * model.normalize
    rows = [{"idx": number, "name": str(number), "path": f"{number}_{kind}" * (number > 0),
             "type": f"sentence_transformers.models.{kind}"} for number, kind in enumerate(kinds)]
    write_json(folder / MODULES, rows)
    write_json(folder / "sentence_bert_config.json",
               {"max_seq_length": model.config.max_sequence_length, "do_lower_case": False})
    for row in rows[1:]:
        (folder / row["path"]).mkdir()
    modes = {name: model.pooling == pooling for pooling, name in MODES.items()}
    write_json(folder / rows[1]["path"] / "config.json",
               {"word_embedding_dimension": model.config.hidden_dim, **modes})


def check_pooling(model):
    """Raise ValueError where the files have no room for how the model pools."""
    if model.pooling not in MODES:
        raise ValueError(f"Hugging Face's files have no room for `pooling`={model.pooling!r}; keep it in the kzoo "
                         "format.")

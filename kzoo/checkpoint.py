"""Weights in and out of files, by the rows of a `WeightTable`."""
import numpy as np

from kzoo.tensor_files import FLOATS, write_tensors
from kzoo.weight_table import Ignore, Tensor, WeightTable


def variables_by_path(model):
    """path -> Keras variable, only weights, no seeds or metrics.

    Paths do not depend on what the models were called, nor on whether the backbone was built on its own or within its
    task: the task's name is left off, and the backbone goes by its family's.
    """
    backbone = getattr(model, "backbone", None)
    inside, family = set(), ""
    if backbone is not None:
        inside, family = {id(variable) for variable in backbone.weights}, model.family.name
    result = {}
    for variable in model.weights:
        if "seed_generator" in variable.path:
            continue
        path = variable.path.removeprefix(f"{model.name}/")
        if id(variable) in inside:
            path = f"{family}/{path.removeprefix(f'{backbone.name}/')}"
        result[path] = variable
    return result


def check_sizes(config, tensors):
    """Refuse a config that is too large for the stored tensors, before memory is spent on building its model.

    Raises: ValueError naming the field.
    """
    layers = sum(config.layer_counts().values())
    if layers > len(tensors.names()):
        raise ValueError(f"{tensors.folder}: the config says there are {layers} layers, and there are only "
                         f"{len(tensors.names())} tensors.")
    lengths = {length for name in tensors.names() for length in tensors.shape(name)}
    for field, length in config.stored_axes().items():
        if length not in lengths:
            raise ValueError(f"{tensors.folder}: the config asks for {length} as `{field}`, and no stored tensor has "
                             "an axis of that length.")


def load_weights(model, tensors, table):
    """Set every variable of `model` from the tensors of a `TensorFolder`.

    Returns: paths of variables that the folder has no tensor for, sorted; none unless the table allows a new head.
    Raises: ValueError naming the tensor for anything missing, left over, of the wrong shape or type, or not finite;
        nothing is set unless names, shapes and types of all fit.
    """
    variables = variables_by_path(model)
    entries = [entry for entry in table.entries() if _has_all(variables, entry)]
    stored = _stored_names(tensors, table, {entry.stored for entry in entries})
    may_stay, unstored = table.head_variables(), table.unstored_variables()
    plan, missing = [], []
    for entry in entries:
        fresh = may_stay.issuperset(entry.variables)
        if entry.stored not in stored or (fresh and table.belongs_to_another(entry)):
            if not entry.tied and not fresh:
                missing.append(entry.stored)
            continue
        name = stored[entry.stored]
        shape = _stored_shape([variables[path] for path in entry.variables], entry)
        if tensors.shape(name) != shape:
            if fresh:
                continue  # of another number of labels
            raise ValueError(f"{tensors.where(name)}: tensor {name!r} has the shape {tensors.shape(name)}; "
                             f"the config asks for {shape}.")
        if tensors.dtype(name) not in FLOATS:
            raise ValueError(f"{tensors.where(name)}: tensor {name!r} has the type {tensors.dtype(name)}; "
                             f"weights must be one of {', '.join(FLOATS)}.")
        plan.append((name, entry))
    if missing:
        raise ValueError(f"{tensors.folder} lacks the tensor {missing[0]!r}{_and_more(missing)}.")
    unset = sorted(set(variables) - unstored - {path for _, entry in plan for path in entry.variables})
    left = [path for path in unset if path not in may_stay]
    if left:
        raise ValueError(f"{tensors.folder} has no tensor for the variable {left[0]!r}{_and_more(left)}.")
    for name, entry in plan:
        _assign(tensors, name, entry, entries, stored, variables)
    return unset


def _stored_names(tensors, table, known):
    """The rows' name -> the file's, of every tensor that the model has a place for."""
    aside, result, extra = table.left_aside(), {}, []
    for name, row_name in table.stored_names(tensors.names()).items():
        if row_name in result:
            raise ValueError(f"{tensors.where(name)} holds one tensor under two names: {name!r} and "
                             f"{result[row_name]!r}.")
        if row_name in known:
            result[row_name] = name
        elif not aside(row_name):
            extra.append(name)
    if extra:
        raise ValueError(f"{tensors.where(extra[0])} holds a tensor the model has no place for: {extra[0]!r}"
                         f"{_and_more(extra)}.")
    return result


def _assign(tensors, name, entry, entries, stored, variables):
    array = tensors.read(name)
    if not np.isfinite(array).all():
        raise ValueError(f"{tensors.where(name)}: tensor {name!r} holds values that are not finite.")
    array = entry.from_stored(array)
    widths = [variables[path].shape[-1] for path in entry.variables]
    for path, part in zip(entry.variables, np.split(array, np.cumsum(widths)[:-1], axis=-1), strict=True):
        if not entry.tied:
            variables[path].assign(part)
            continue
        owner = next(each for each in entries if each.variables == (path,) and not each.tied)
        if not np.array_equal(owner.from_stored(tensors.read(stored[owner.stored])), part):
            raise ValueError(f"{tensors.where(name)}: tensor {name!r} differs from the one it is tied to; "
                             "untied checkpoints of this family are not supported.")


def collect_weights(model, table):
    """name -> array of every tensor to store, the inverse of `load_weights`."""
    variables = variables_by_path(model)
    result, used = {}, table.unstored_variables()
    for entry in table.entries():
        if not entry.written:
            continue
        used.update(entry.variables)
        kernels = [_kernel_of(path, variables) for path in entry.variables]
        if _has_all(variables, entry):
            parts = [np.asarray(variables[path]) for path in entry.variables]
            array = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
            result[entry.stored] = np.ascontiguousarray(entry.to_stored(array))
        elif entry.optional and all(kernels):
            width = sum(variables[kernel].shape[-1] for kernel in kernels)
            result[entry.stored] = np.zeros(width, variables[kernels[0]].dtype)
    left = sorted(set(variables) - used)
    if left:
        raise ValueError(f"The weight table has no row for the variable {left[0]!r}{_and_more(left)}.")
    return result


def save_weights(model, path, table):
    """Write the tensors of `collect_weights` to one safetensors file."""
    write_tensors(path, collect_weights(model, table), {"format": "pt"})


def native_table(model, new_head=False, stored_names=()):
    """kzoo's own format: every variable under its path.

    Args:
        new_head: what the task adds may be missing from the file, and the file may hold another task's.
        stored_names: of the file.
    """
    rows = tuple(Tensor(path, path) for path in variables_by_path(model))
    if not new_head:
        return WeightTable(rows, {})
    prefix = f"{model.family.name}/"
    backbone, head = ([row for row in rows if row.stored.startswith(prefix) == inside] for inside in (True, False))
    known = {row.stored for row in rows}
    others = [Ignore(name) for name in stored_names if name not in known and not name.startswith(prefix)]
    return WeightTable(tuple(backbone), {}, head=tuple(head), new_head=True, others=tuple(others))


def _has_all(variables, entry):
    """Whether the model has what the entry stores: all of it, or nothing."""
    present = [path in variables for path in entry.variables]
    if any(present) and not all(present):
        raise ValueError(f"The model has no variable {entry.variables[present.index(False)]!r}, which the weight table "
                         f"stores in {entry.stored!r}.")
    return all(present)


def _kernel_of(bias_path, variables):
    """The path of the weight that an offset belongs to, or None."""
    layer = bias_path.rsplit("/", 1)[0]
    return next((f"{layer}/{name}" for name in ("kernel", "scale") if f"{layer}/{name}" in variables), None)


def _stored_shape(variables, entry):
    first = tuple(variables[0].shape)
    return entry.stored_shape((*first[:-1], sum(variable.shape[-1] for variable in variables)))


def _and_more(names):
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""

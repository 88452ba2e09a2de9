"""Weights in and out of files by one table of rows; the same rows load and save.

A row names a stored tensor and our variables, `{i}` standing for the layer. Every variable has exactly one source and
every stored tensor exactly one use or an explicit `Ignore`; anything left over is an error.
"""
import dataclasses
import re

import numpy as np

from kzoo.tensor_files import FLOATS, write_tensors


@dataclasses.dataclass(frozen=True)
class Entry:
    """One stored tensor and the variables it holds.

    Attributes:
        stored: its name in the file.
        variables: paths of ours, more than one for tensors that lie side by side in it.
        transpose: True where the file keeps [out, in] and we [in, out].
        optional: a variable that the model may lack (an offset it was built without) is stored as zeros.
        tied: the tensor repeats a variable that another entry owns; it may be absent and is not written.
    """
    stored: str
    variables: tuple
    transpose: bool = False
    optional: bool = False
    tied: bool = False


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor, one variable, as it is."""
    stored: str
    variable: str

    def entries(self):
        return [Entry(self.stored, (self.variable,))]


@dataclasses.dataclass(frozen=True)
class Norm:
    """A normalisation layer: weight and bias."""
    stored: str
    layer: str

    def entries(self):
        return [Entry(f"{self.stored}.weight", (f"{self.layer}/scale",)),
                Entry(f"{self.stored}.bias", (f"{self.layer}/bias",), optional=True)]


@dataclasses.dataclass(frozen=True)
class Split:
    """Several dense layers side by side along the last axis of one tensor."""
    stored: str
    layers: tuple
    transpose = False

    def entries(self):
        return [Entry(f"{self.stored}.weight", tuple(f"{layer}/kernel" for layer in self.layers), self.transpose),
                Entry(f"{self.stored}.bias", tuple(f"{layer}/bias" for layer in self.layers), optional=True)]


@dataclasses.dataclass(frozen=True)
class Conv1D:
    """A dense layer stored [in, out], as Keras does."""
    stored: str
    layer: str

    def entries(self):
        return Split(self.stored, (self.layer,)).entries()


@dataclasses.dataclass(frozen=True)
class Linear:
    """A dense layer stored [out, in], as PyTorch does."""
    stored: str
    layer: str

    def entries(self):
        kernel, bias = Split(self.stored, (self.layer,)).entries()
        return [dataclasses.replace(kernel, transpose=True), bias]


@dataclasses.dataclass(frozen=True)
class Tied:
    """A second name for a variable. In a file it must be absent or equal; it is not written."""
    stored: str
    variable: str

    def entries(self):
        return [Entry(self.stored, (self.variable,), tied=True)]


@dataclasses.dataclass(frozen=True)
class Ignore:
    """A stored tensor that carries no weights."""
    stored: str

    def entries(self):
        return []


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a family's checkpoints look in Hugging Face folders.

    Attributes:
        model_type: the value in config.json.
        architectures: task -> the class name there.
        prefix: what stands before the backbone's names in task models; absent in bare ones, so optional on loading.
        fields: (ours, theirs) config fields.
        values: our field -> {their value: our value}; the first of theirs is the one written.
        fixed: our fields that their class has no room for, and the only value it means.
        extra: their fields, written as a second name of ours.
        rows: the weight table.
    """
    model_type: str
    architectures: dict
    prefix: str
    fields: tuple
    values: dict
    fixed: dict
    extra: dict
    rows: tuple

    def read_config(self, config_class, values):
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
        return config_class.from_dict(ours)

    def write_config(self, config, task):
        """The dict for config.json. Raises ValueError where their class cannot say what the config says."""
        for name, value in self.fixed.items():
            if getattr(config, name) not in (value, getattr(type(config)(), name)):
                raise ValueError(f"Hugging Face's {self.model_type!r} has no room for `{name}`="
                                 f"{getattr(config, name)!r}; keep it in the kzoo format.")
        result = {"architectures": [self.architectures[task]], "model_type": self.model_type, "dtype": "float32",
                  "tie_word_embeddings": True}
        for name, theirs in self.fields:
            value = getattr(config, name)
            if name in self.values:
                value = next(word for word, meaning in self.values[name].items() if meaning == value)
            result[theirs] = value
        return {**result, **{theirs: getattr(config, ours) for theirs, ours in self.extra.items()}}


def hugging_face_config(model):
    """config.json of `model` in Hugging Face's form, with the token ids its tokenizer knows."""
    values = model.family.hugging_face.write_config(model.config, model.task)
    tokenizer = getattr(model, "tokenizer", None)
    for name in ("bos", "eos", "pad"):
        values[f"{name}_token_id"] = None if tokenizer is None else getattr(tokenizer, f"{name}_id")
    return values


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
    if config.num_layers > len(tensors.names()):
        raise ValueError(f"{tensors.folder}: config.json says `num_layers` is {config.num_layers}, and there are only "
                         f"{len(tensors.names())} tensors.")
    lengths = {length for name in tensors.names() for length in tensors.shape(name)}
    for field, length in config.stored_axes().items():
        if length not in lengths:
            raise ValueError(f"{tensors.folder}: config.json asks for {length} as `{field}`, and no stored tensor has "
                             "an axis of that length.")


def load_weights(model, tensors, rows, num_layers, prefix=""):
    """Set every variable of `model` from the tensors of a `TensorFolder`.

    Raises: ValueError naming the tensor for anything missing, left over, of the wrong shape or type, or not finite;
        nothing is set unless names, shapes and types of all fit.
    """
    folder = tensors.folder
    variables = variables_by_path(model)
    stored = {}
    for name in tensors.names():
        if _bare(name, prefix) in stored:
            raise ValueError(f"{tensors.where(name)} holds one tensor under two names: {name!r} and "
                             f"{stored[_bare(name, prefix)]!r}.")
        stored[_bare(name, prefix)] = name
    ignored = [_pattern(row.stored) for row in rows if isinstance(row, Ignore)]
    entries = [entry for entry in expand(rows, num_layers) if _has_all(variables, entry)]
    known = {entry.stored for entry in entries}
    extra = [name for bare, name in stored.items()
             if bare not in known and not any(pattern.fullmatch(bare) for pattern in ignored)]
    if extra:
        raise ValueError(f"{tensors.where(extra[0])} holds a tensor the model has no place for: {extra[0]!r}"
                         f"{_and_more(extra)}.")
    missing = [entry.stored for entry in entries if entry.stored not in stored and not entry.tied]
    if missing:
        raise ValueError(f"{folder} lacks the tensor {missing[0]!r}{_and_more(missing)}.")
    plan = []
    for entry in entries:
        if entry.stored not in stored:
            continue  # tied
        shape = _stored_shape([variables[path] for path in entry.variables], entry.transpose)
        name = stored[entry.stored]
        if tensors.shape(name) != shape:
            raise ValueError(f"{tensors.where(name)}: tensor {name!r} has the shape {tensors.shape(name)}; "
                             f"the config asks for {shape}.")
        if tensors.dtype(name) not in FLOATS:
            raise ValueError(f"{tensors.where(name)}: tensor {name!r} has the type {tensors.dtype(name)}; "
                             f"weights must be one of {', '.join(FLOATS)}.")
        plan.append((name, entry))
    covered = {path for _, entry in plan for path in entry.variables}
    unset = sorted(set(variables) - covered)
    if unset:
        raise ValueError(f"{folder} has no tensor for the variable {unset[0]!r}{_and_more(unset)}.")
    for name, entry in plan:
        array = tensors.read(name)
        if not np.isfinite(array).all():
            raise ValueError(f"{tensors.where(name)}: tensor {name!r} holds values that are not finite.")
        array = array.T if entry.transpose else array
        widths = [variables[path].shape[-1] for path in entry.variables]
        for path, part in zip(entry.variables, np.split(array, np.cumsum(widths)[:-1], axis=-1), strict=True):
            if not entry.tied:
                variables[path].assign(part)
            elif not np.array_equal(tensors.read(stored[_owner(entries, path)]), part):
                raise ValueError(f"{tensors.where(name)}: tensor {name!r} differs from the one it is tied to; "
                                 "untied checkpoints of this family are not supported.")


def collect_weights(model, rows, num_layers, prefix=""):
    """name -> array of every tensor to store, the inverse of `load_weights`."""
    variables = variables_by_path(model)
    result, used = {}, set()
    for entry in expand(rows, num_layers):
        if entry.tied:
            continue
        used.update(entry.variables)
        kernels = [_kernel_of(path, variables) for path in entry.variables]
        if _has_all(variables, entry):
            parts = [np.asarray(variables[path]) for path in entry.variables]
            array = np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
            result[prefix + entry.stored] = np.ascontiguousarray(array.T if entry.transpose else array)
        elif entry.optional and all(kernels):
            width = sum(variables[kernel].shape[-1] for kernel in kernels)
            result[prefix + entry.stored] = np.zeros(width, variables[kernels[0]].dtype)
    left = sorted(set(variables) - used)
    if left:
        raise ValueError(f"The weight table has no row for the variable {left[0]!r}{_and_more(left)}.")
    return result


def save_weights(model, path, rows, num_layers, prefix=""):
    """Write the tensors of `collect_weights` to one safetensors file."""
    write_tensors(path, collect_weights(model, rows, num_layers, prefix), {"format": "pt"})


def native_rows(model):
    """kzoo's own format: every variable under its path."""
    return tuple(Tensor(path, path) for path in variables_by_path(model))


def expand(rows, num_layers):
    """The entries of a table, `{i}` written out for each layer.

    Raises: ValueError if two rows claim the same stored tensor or the same variable.
    """
    result = []
    for row in rows:
        for entry in row.entries():
            if "{i}" in entry.stored:
                result += [dataclasses.replace(entry, stored=entry.stored.replace("{i}", str(i)), variables=tuple(
                    path.replace("{i}", str(i)) for path in entry.variables)) for i in range(num_layers)]
            else:
                result.append(entry)
    _refuse_repeats("stored tensor", [entry.stored for entry in result])
    _refuse_repeats("variable", [path for entry in result if not entry.tied for path in entry.variables])
    return result


def _refuse_repeats(kind, names):
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Two rows of the weight table are for the {kind} {repeated!r}.")


def _bare(name, prefix):
    return name[len(prefix):] if prefix and name.startswith(prefix) else name


def _pattern(stored):
    return re.compile(re.escape(stored).replace(re.escape("{i}"), r"\d+"))


def _owner(entries, path):
    return next(entry.stored for entry in entries if entry.variables == (path,) and not entry.tied)


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


def _stored_shape(variables, transpose):
    first = tuple(variables[0].shape)
    shape = (*first[:-1], sum(variable.shape[-1] for variable in variables))
    return shape[::-1] if transpose else shape


def _and_more(names):
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""

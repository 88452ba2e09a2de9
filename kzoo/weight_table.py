"""Weight tables: which stored tensor holds which variables, as rows; the same rows load and save.

A row names a stored tensor and our variables. `{i}` stands for the number of a layer, `{j}` for that of a decoder layer
where there are two stacks. Every variable has exactly one source and every stored tensor exactly one use or an explicit
`Ignore`; anything left over is an error.
"""
import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Entry:
    """One stored tensor and the variables it holds.

    Attributes:
        stored: its name in the file.
        variables: paths of ours, more than one for tensors that lie side by side in it.
        transpose: True where the file keeps [out, in] and we [in, out].
        optional: a variable that the model may lack (an offset it was built without) is stored as zeros.
        tied: the tensor repeats a variable that another entry owns; it may be absent.
        written: False for what is tied and left out of the files that are written.
        extra_axes: how many axes of length 1 the file's tensor has in front.
    """
    stored: str
    variables: tuple
    transpose: bool = False
    optional: bool = False
    tied: bool = False
    written: bool = True
    extra_axes: int = 0

    def from_stored(self, array):
        """The file's array as the variables have it, side by side."""
        array = array.reshape(array.shape[self.extra_axes:])
        return array.T if self.transpose else array

    def to_stored(self, array):
        """The inverse of `from_stored`."""
        return (array.T if self.transpose else array).reshape(self.stored_shape(array.shape))

    def stored_shape(self, shape):
        return (1,) * self.extra_axes + (shape[::-1] if self.transpose else tuple(shape))


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor, one variable, as it is; `extra_axes` of length 1 stand before it in the file."""
    stored: str
    variable: str
    extra_axes: int = 0

    def entries(self):
        return [Entry(self.stored, (self.variable,), extra_axes=self.extra_axes)]


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
    """A dense layer stored [out, in], as PyTorch does; with `use_bias` False the file has no offset, not even zeros."""
    stored: str
    layer: str
    use_bias: bool = True

    def entries(self):
        kernel, bias = Split(self.stored, (self.layer,)).entries()
        kernel = dataclasses.replace(kernel, transpose=True)
        return [kernel, bias] if self.use_bias else [kernel]


@dataclasses.dataclass(frozen=True)
class SplitLinear(Split):
    """Several dense layers side by side, stored [out, in], as PyTorch does; the file has no offsets."""
    transpose = True

    def entries(self):
        return super().entries()[:1]


@dataclasses.dataclass(frozen=True)
class Tied:
    """A second name for a variable. In a file it must be absent or equal; it is written only where readers need it."""
    stored: str
    variable: str
    written: bool = False

    def entries(self):
        return [Entry(self.stored, (self.variable,), tied=True, written=self.written)]


@dataclasses.dataclass(frozen=True)
class Ignore:
    """A stored tensor that carries no weights; `{i}` stands for any number."""
    stored: str

    def entries(self):
        return []


@dataclasses.dataclass(frozen=True)
class Unstored:
    """A variable that files of this kind do not hold: it keeps the value that it is made with."""
    variable: str

    def entries(self):
        return []


@dataclasses.dataclass(frozen=True)
class WeightTable:
    """All rows for one task model in one kind of file.

    Attributes:
        rows: of the backbone.
        counts: how many layers each placeholder stands for, for example {"i": 12}.
        head: rows of what the task adds.
        prefix: what backbone's names begin with; files of a bare backbone leave it out, so it is optional on loading.
        new_head: tensors of the head may be missing or of another shape; such variables keep their fresh values.
        others: rows of other tasks' heads, whose tensors may stand in the file and are left aside.
        saved_head: rows of the head that the file was saved with, where it is another task's. A tensor that both heads
            call by one name belongs to that one.
        renames: (old, new) pieces of stored names, for files of older versions.
    """
    rows: tuple
    counts: dict
    head: tuple = ()
    prefix: str = ""
    new_head: bool = False
    others: tuple = ()
    saved_head: tuple = ()
    renames: tuple = ()

    def entries(self):
        """One entry for every tensor that a file may hold for the model."""
        return expand(self.rows + self.head, self.counts)

    def unstored_variables(self):
        """Paths of the variables that the file does not hold."""
        paths = [row.variable for row in self.rows + self.head if isinstance(row, Unstored)]
        return {path for each in paths for path in _all_numbered(each, self.counts)}

    def head_variables(self):
        """Paths of the variables that may keep their fresh values."""
        head = expand(self.head, self.counts) if self.new_head else []
        return {path for entry in head for path in entry.variables}

    def belongs_to_another(self, entry):
        """Whether the file's tensor of this name is of the head it was saved with, and not of the model's."""
        saved = {each.stored: each.variables for each in expand(self.saved_head, self.counts)}
        return saved.get(entry.stored, entry.variables) != entry.variables

    def stored_names(self, names):
        """Names in a file -> the rows' names: in today's words, and with the prefix."""
        known = {entry.stored for entry in self.entries()}
        aside = self.left_aside()
        result = {}
        for name in names:
            row_name = name
            for old, new in self.renames:
                row_name = row_name.replace(old, new)
            longer = self.prefix + row_name
            if row_name not in known and not aside(row_name) and (longer in known or aside(longer)):
                row_name = longer
            result[name] = row_name
        return result

    def left_aside(self):
        """A function: whether a tensor of this name needs no place in the model."""
        mine = {entry.stored for entry in self.entries()}
        ignored = [row.stored for row in (*self.rows, *self.head, *self.others) if isinstance(row, Ignore)]
        other = [entry.stored for row in self.others for entry in row.entries()]
        patterns = [re.compile(re.sub(r"\\\{[ij]\\\}", r"\\d+", re.escape(name))) for name in ignored + other]
        return lambda name: name not in mine and any(pattern.fullmatch(name) for pattern in patterns)


def with_prefix(rows, stored="", variable=""):
    """The same rows with longer names: of the stored tensors, of the variables."""
    result = []
    for row in rows:
        changes = {} if isinstance(row, Unstored) else {"stored": stored + row.stored}
        for field in ("variable", "layer"):
            if hasattr(row, field):
                changes[field] = variable + getattr(row, field)
        if hasattr(row, "layers"):
            changes["layers"] = tuple(variable + layer for layer in row.layers)
        result.append(dataclasses.replace(row, **changes))
    return tuple(result)


def expand(rows, counts):
    """The entries of rows, each placeholder written out for each of its layers.

    Raises: ValueError if two rows claim the same stored tensor or the same variable.
    """
    result = []
    for row in rows:
        for entry in row.entries():
            mark = next((mark for mark in counts if f"{{{mark}}}" in entry.stored), None)
            result += [entry] if mark is None else [_numbered(entry, f"{{{mark}}}", i) for i in range(counts[mark])]
    _refuse_repeats("stored tensor", [entry.stored for entry in result])
    _refuse_repeats("variable", [path for entry in result if not entry.tied for path in entry.variables])
    return result


def _all_numbered(path, counts):
    """A path with its placeholder written out."""
    mark = next((mark for mark in counts if f"{{{mark}}}" in path), None)
    return [path] if mark is None else [path.replace(f"{{{mark}}}", str(i)) for i in range(counts[mark])]


def _numbered(entry, mark, i):
    return dataclasses.replace(entry, stored=entry.stored.replace(mark, str(i)),
                               variables=tuple(path.replace(mark, str(i)) for path in entry.variables))


def _refuse_repeats(kind, names):
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"Two rows of the weight table are for the {kind} {repeated!r}.")

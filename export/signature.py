"""The two kinds of rows that `kzoo.export.signature_tables` is made of."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One tensor.

    Attributes:
        name: ours.
        file_name: the artifact's.
        shape: numbers, names of sizes, or symbols.
        dtype: a numpy name.
        optional: the caller may leave it out.
        only_if: a size; models in which it is 1 do not have this tensor.
    """
    name: str
    file_name: str
    shape: tuple
    dtype: str
    optional: bool = False
    only_if: str = ""


@dataclasses.dataclass(frozen=True)
class Signature:
    """One callable of an artifact.

    Attributes:
        name: ours.
        file_name: the artifact's name for it.
        inputs, outputs: tuples of `Row`.
        derived: the session makes it out of another one; the file itself has none of its own.
    """
    name: str
    file_name: str
    inputs: tuple
    outputs: tuple
    derived: bool = False

    def to_dict(self):
        """Plain values for the manifest."""
        def plain(rows):
            return [{"name": row.name, "file_name": row.file_name, "shape": list(row.shape), "dtype": row.dtype}
                    for row in rows]
        return {"file_name": self.file_name, "inputs": plain(self.inputs), "outputs": plain(self.outputs)}

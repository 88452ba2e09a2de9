"""Patterns and positions as plain values, as they stand in configs: a name, or a dict of it and its settings."""
import dataclasses

from kzoo.errors import unknown
from kzoo.layers.axial_positions import AxialPositions
from kzoo.layers.block_local import BlockLocal
from kzoo.layers.block_sparse import BlockSparse
from kzoo.layers.blockwise import Blockwise
from kzoo.layers.folding import sees_ahead
from kzoo.layers.hierarchical import Hierarchical
from kzoo.layers.patterns import Full
from kzoo.layers.positions import ALiBi, LearnedPositions, NoPosition, Rotary, SinusoidalPositions
from kzoo.layers.relative_positions import RelativePositionBias
from kzoo.layers.shaw_positions import ShawRelative
from kzoo.layers.sliding_window import SlidingWindow
from kzoo.layers.strided import Strided
from kzoo.layers.transformer_xl_positions import TransformerXLRelative

PATTERNS = {"full": Full, "blockwise": Blockwise, "block_local": BlockLocal, "strided": Strided,
            "sliding_window": SlidingWindow, "block_sparse": BlockSparse, "hierarchical": Hierarchical}
EXACT = ("full", "blockwise")  # patterns that look at all pairs: weights mean the same under each of them

# What attention is told of positions, and which settings each has. Those that are added to embeddings tell it nothing.
POSITIONS = {"learned": NoPosition, "sinusoidal": NoPosition, "axial": NoPosition, "none": NoPosition,
             "rotary": Rotary, "alibi": ALiBi, "relative": RelativePositionBias, "shaw": ShawRelative,
             "transformer_xl": TransformerXLRelative}
SETTINGS = {"axial": ("shape", "dims"), "rotary": ("base", "scaling", "factor"),
            "relative": ("num_buckets", "max_distance"), "shaw": ("max_distance",)}
SHARED = ("relative",)  # one object serves all layers of a stack


def make_pattern(value, layer=0):
    """The pattern that a config names, for the layer with this number.

    Args:
        value: a name of `PATTERNS`, or a dict of `name` and the pattern's fields:
            {"name": "block_local", "block_size": 64}.

    Raises: ValueError for what does not exist, is missing or does not fit.
    """
    cls, settings = _read("pattern", value, PATTERNS)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    _refuse_unknown("pattern", value, settings, fields)
    for name, field in fields.items():
        if name not in settings and field.default is dataclasses.MISSING:
            raise ValueError(f"The pattern {part_name(value)!r} needs `{name}`: "
                             f"{{\"name\": \"{part_name(value)}\", \"{name}\": 64}}.")
        if type(settings.get(name, 0)) is not int:
            raise ValueError(f"`{name}` of the pattern {part_name(value)!r} must be a whole number. "
                             f"Received: {settings[name]!r}.")
    return cls(**settings).for_layer(layer)


def make_position(value, num_heads, head_dim, bidirectional, scale=None, initializer="glorot_uniform", dtype=None):
    """What a config's `position` hands to attention.

    Args:
        value: a name of `POSITIONS`, or a dict of `name` and its settings:
            {"name": "rotary", "scaling": "ntk", "factor": 4.0}.
        num_heads, head_dim: H, D.
        bidirectional: whether keys after the query are seen.
        scale: of the scores; None means 1 / sqrt(D).
        initializer, dtype: of positions with weights.
    """
    cls, settings = _read("position", value, POSITIONS)
    _refuse_unknown("position", value, settings, SETTINGS.get(part_name(value), ()))
    name = part_name(value)
    if name == "relative":
        return cls(num_heads, **settings, bidirectional=bidirectional, initializer=initializer, name="position",
                   dtype=dtype)
    if name == "shaw":
        return cls(head_dim, **settings, scale=scale, initializer=initializer, name="position", dtype=dtype)
    if name == "transformer_xl":
        return cls(num_heads, head_dim, num_heads * head_dim, scale=scale, initializer=initializer, name="position",
                   dtype=dtype)
    return cls() if cls is NoPosition else cls(**settings)


def make_position_embedding(value, max_sequence_length, hidden_dim, initializer, dtype=None):
    """The layer that a config's `position` adds to embeddings, int32 (B or 1, T) to (B or 1, T, E); None for none.

    Args:
        value: see `make_position`; "axial" is {"name": "axial", "shape": [n1, n2], "dims": [d1, d2]}.
        max_sequence_length: of the config; n1 * n2 must not be below it.
        hidden_dim: E, d1 + d2.
        initializer, dtype: of positions with weights.

    Raises: ValueError for settings that do not fit.
    """
    _, settings = _read("position", value, POSITIONS)
    name, common = part_name(value), {"name": "position_embedding", "dtype": dtype}
    if name == "learned":
        return LearnedPositions(max_sequence_length, hidden_dim, initializer, **common)
    if name == "sinusoidal":
        return SinusoidalPositions(hidden_dim, **common)
    if name != "axial":
        return None
    shape, dims = (settings.get(each) for each in SETTINGS["axial"])
    for each in (shape, dims):
        if not isinstance(each, list | tuple) or [type(size) for size in each] != [int, int]:
            raise ValueError("The position 'axial' needs two whole numbers each for `shape` and `dims`: "
                             f'{{"name": "axial", "shape": [32, 32], "dims": [64, 64]}}. Received: {value!r}.')
    layer = AxialPositions(shape, dims, initializer, **common)
    if shape[0] * shape[1] < max_sequence_length or sum(dims) != hidden_dim:
        raise ValueError(f"The position 'axial' must have a place for each of the {max_sequence_length} tokens of "
                         f"`max_sequence_length` in its `shape`, and `dims` that sum to `hidden_dim` ({hidden_dim}). "
                         f"Received: shape={list(shape)}, dims={list(dims)}.")
    return layer


def check_pair(pattern, position, mask, num_heads):
    """Raise ValueError, saying why, where the pattern cannot work with the position, both as configs name them."""
    position, pattern = make_position(position, num_heads, 2, bidirectional=sees_ahead(mask)), make_pattern(pattern)
    pattern.check(mask, position, num_heads)
    position.check(mask, pattern)


def part_name(value):
    """The name in a config's value."""
    return value.get("name") if isinstance(value, dict) else value


def _read(kind, value, known):
    """(class, settings)."""
    name = part_name(value)
    if name not in known:
        raise ValueError(unknown(kind, str(name), known))
    return known[name], {key: each for key, each in value.items() if key != "name"} if isinstance(value, dict) else {}


def _refuse_unknown(kind, value, settings, known):
    for name in settings:
        if name not in known:
            raise ValueError(unknown(f"setting of the {kind} {part_name(value)!r}", name, known))

"""Patterns and positions as plain values, as they stand in configs: a name, or a dict of it and its settings."""
import dataclasses

from kzoo.errors import unknown
from kzoo.layers.block_local import BlockLocal
from kzoo.layers.block_sparse import BlockSparse
from kzoo.layers.blockwise import Blockwise
from kzoo.layers.folding import sees_ahead
from kzoo.layers.hierarchical import Hierarchical
from kzoo.layers.patterns import Full
from kzoo.layers.positions import ALiBi, NoPosition, Rotary
from kzoo.layers.relative_positions import RelativePositionBias
from kzoo.layers.shaw_positions import ShawRelative
from kzoo.layers.sliding_window import SlidingWindow
from kzoo.layers.strided import Strided

PATTERNS = {"full": Full, "blockwise": Blockwise, "block_local": BlockLocal, "strided": Strided,
            "sliding_window": SlidingWindow, "block_sparse": BlockSparse, "hierarchical": Hierarchical}
EXACT = ("full", "blockwise")  # patterns that look at all pairs: weights mean the same under each of them

# What attention is told of positions, and which settings each has. Those that are added to embeddings tell it nothing.
POSITIONS = {"learned": NoPosition, "sinusoidal": NoPosition, "none": NoPosition, "rotary": Rotary, "alibi": ALiBi,
             "relative": RelativePositionBias, "shaw": ShawRelative}
SETTINGS = {"rotary": ("base", "scaling", "factor"), "relative": ("num_buckets", "max_distance"),
            "shaw": ("max_distance",)}
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
    return cls(**settings)


def check_pair(pattern, position, mask, num_heads):
    """Raise ValueError, saying why, where the pattern cannot work with the position, both as configs name them."""
    position = make_position(position, num_heads, 1, bidirectional=sees_ahead(mask))
    make_pattern(pattern).check(mask, position, num_heads)


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

"""Configs: frozen dataclasses of plain values, checked once, when they are made."""
import dataclasses
import json
import math
import types
import typing

from kzoo.errors import unknown


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of every family's config.

    Subclasses are frozen dataclasses whose fields are plain values (int, float, bool, str, tuples of those, a dict for
    a part that has settings, or None where the annotation says so). Types are checked here; relations between fields in
    `check`.

    Raises: TypeError for a field of the wrong type, ValueError for an unknown field or an inconsistent value.
    """

    def __post_init__(self):
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _coerce(getattr(self, field.name), hints[field.name])
            if not _matches(value, hints[field.name]):
                raise TypeError(
                    f"`{field.name}` of {type(self).__name__} must be {_spell(hints[field.name])}. "
                    f"Received: {value!r} ({type(value).__name__}).")
            if not _is_finite(value):
                raise ValueError(f"`{field.name}` of {type(self).__name__} must be finite. Received: {value!r}.")
            object.__setattr__(self, field.name, value)
        self.check()

    def check(self):
        """Relations between fields; families override it."""

    def stored_axes(self):
        """Field -> length, for fields that are the length of an axis of some weight.

        Where a checkpoint has no such axis, its config is refused before a model of that size is built.
        """
        return {}

    def layer_counts(self):
        """Placeholder in weight tables -> how many layers it numbers: `{i}` for the (first) stack."""
        return {"i": self.num_layers}

    def require(self, condition, field, message):
        """Raise ValueError naming `field` and its value unless `condition` holds."""
        if not condition:
            raise ValueError(f"`{field}` of {type(self).__name__} {message}. Received: {getattr(self, field)!r}.")

    def replace(self, **changes):
        """A variant of this config. Unknown names are refused with the closest match."""
        self.refuse_unknown(changes)
        return dataclasses.replace(self, **changes)

    def to_dict(self):
        """Plain values by name, ready for JSON."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def defaults(cls):
        """What `from_dict` gives the fields that it finds no value of, ready for JSON."""
        return {field.name: _plain(field.default) for field in dataclasses.fields(cls)
                if field.default is not dataclasses.MISSING}

    @classmethod
    def from_dict(cls, values):
        """The inverse of `to_dict`."""
        if not isinstance(values, dict):
            raise TypeError(f"{cls.__name__} is made from a dict of its fields. Received: {values!r}.")
        cls.refuse_unknown(values)
        return cls(**values)

    @classmethod
    def parse(cls, texts):
        """Field values from strings, as the command line gives them, read by the fields' types.

        Args:
            texts: dict of field name -> text. "none" is None, "true" and "false" are booleans, commas separate the
                items of a tuple; a dict is written as JSON.

        Returns: dict of field name -> value, for `replace`.
        Raises: ValueError for a field that does not exist or a text that is not of its type.
        """
        cls.refuse_unknown(texts)
        hints = typing.get_type_hints(cls)
        return {name: _parse(text, hints[name], f"`{name}` of {cls.__name__}") for name, text in texts.items()}

    @classmethod
    def field_names(cls):
        return tuple(field.name for field in dataclasses.fields(cls))

    @classmethod
    def refuse_unknown(cls, values):
        """Raise ValueError, with the closest match, for a name among `values` that is no field."""
        for name in values:
            if name not in cls.field_names():
                raise ValueError(unknown(f"{cls.__name__} field", name, cls.field_names()))


def _coerce(value, hint):
    """JSON has no tuples, and whole floats are often written as ints."""
    options = _options(hint)
    if isinstance(value, dict) and dict in options:  # a part without settings is its name alone
        return value["name"] if str in options and set(value) == {"name"} else dict(value)
    if isinstance(value, list) and any(typing.get_origin(option) is tuple for option in options):
        return tuple(value)
    if type(value) is int and float in options and int not in options:
        return float(value)
    return value


def _matches(value, hint):
    for option in _options(hint):
        if typing.get_origin(option) is tuple:
            item = typing.get_args(option)[0]
            if isinstance(value, tuple) and all(_matches(each, item) for each in value):
                return True
        elif type(value) is option:  # not isinstance: True is no int here
            return True
    return False


def _parse(text, hint, name):
    options = _options(hint)
    for kind in sorted(options, key=lambda kind: kind is str):  # any text is a str: try that last
        try:
            if typing.get_origin(kind) is tuple:
                items = [part.strip() for part in text.split(",") if part.strip()]
                return tuple(_parse(item, typing.get_args(kind)[0], name) for item in items)
            return _PARSERS[kind](text)
        except (KeyError, ValueError):
            continue
    raise ValueError(f"{name} must be {_spell(hint)}. Received: {text!r}.")


def _parse_dict(text):
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a dict")
    return value


_PARSERS = {
    dict: _parse_dict,
    bool: lambda text: {"true": True, "false": False}[text.lower()],
    type(None): lambda text: {"none": None}[text.lower()],
    int: int,
    float: float,
    str: str,
}


def _is_finite(value):
    values = value if isinstance(value, tuple) else (value,)
    return all(math.isfinite(item) for item in values if isinstance(item, float))


def _options(hint):
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _spell(hint):
    return " or ".join(_spell_one(option) for option in _options(hint))


def _spell_one(kind):
    if typing.get_origin(kind) is tuple:
        return f"tuple of {_spell(typing.get_args(kind)[0])}"
    return "None" if kind is type(None) else kind.__name__


def _plain(value):
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, dict) else value

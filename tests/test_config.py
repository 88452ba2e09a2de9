"""Configs: typed, frozen, checked when made, the same after a trip through JSON or text."""
import dataclasses
import json

import pytest

from kzoo.config import Config


@dataclasses.dataclass(frozen=True)
class Shape(Config):
    width: int = 15
    heads: int = 3
    dropout: float = 0.1
    bias: bool = True
    name: str = "plain"
    inner: int | None = None
    windows: tuple[int, ...] = (2, 5)
    scale: float | None = None

    def check(self):
        self.require(self.width % self.heads == 0, "width", f"must be divisible by heads={self.heads}")


def test_a_round_trip_through_json():
    config = Shape(width=21, heads=7, inner=11, windows=(13,))
    assert Shape.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert Shape.from_dict({**config.to_dict(), "inner": 17}) != config


def test_a_round_trip_through_text():
    config = Shape(width=21, heads=7, dropout=0.0, bias=False, name="other", inner=None, windows=(3, 11), scale=0.5)
    texts = {"width": "21", "heads": "7", "dropout": "0", "bias": "False", "name": "other", "inner": "none",
             "windows": "3, 11", "scale": "0.5"}
    assert Shape(inner=5).replace(**Shape.parse(texts)) == config
    assert Shape.parse({"inner": "7"}) == {"inner": 7}


@dataclasses.dataclass(frozen=True)
class Made(Config):
    part: str | dict = "plain"


def test_a_part_with_settings_is_a_dict():
    value = {"name": "round", "width": 3}
    config = Made(part=value)
    value["width"] = 5  # the caller's own
    assert config.part == {"name": "round", "width": 3} == Made.from_dict(json.loads(json.dumps(config.to_dict()))).part
    assert Made(part={"name": "round"}) == Made(part="round")  # without settings it is its name
    assert Made.parse({"part": '{"name": "round", "width": 3}'}) == {"part": config.part}
    assert Made.parse({"part": "round"}) == {"part": "round"} and Made.parse({"part": "[1]"}) == {"part": "[1]"}
    with pytest.raises(TypeError, match="`part` of Made must be str or dict. Received: 3"):
        Made(part=3)


def test_values_keep_their_type():
    assert type(Shape(dropout=0).dropout) is float
    assert Shape(windows=[2, 3]).windows == (2, 3)


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Shape().width = 30


@pytest.mark.parametrize("field, value, words", [
    ("width", "15", "`width` of Shape must be int. Received: '15'"),
    ("width", 15.0, "must be int"),
    ("width", True, "must be int. Received: True"),
    ("bias", 1, "must be bool"),
    ("inner", "none", "must be int or None"),
    ("windows", (2, "5"), "`windows` of Shape must be tuple of int"),
    ("name", None, "must be str"),
])
def test_a_wrong_type_is_refused(field, value, words):
    with pytest.raises(TypeError, match=words):
        Shape(**{field: value})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_without_a_value_are_refused(value):
    with pytest.raises(ValueError, match="`dropout` of Shape must be finite"):
        Shape(dropout=value)


def test_fields_that_disagree_are_refused():
    with pytest.raises(ValueError, match="`width` of Shape must be divisible by heads=7. Received: 15"):
        Shape(heads=7)


@pytest.mark.parametrize("make", [Shape.from_dict, Shape.parse, lambda values: Shape().replace(**values)])
def test_an_unknown_field_is_refused_with_the_closest(make):
    with pytest.raises(ValueError, match="Unknown Shape field 'widht'. Did you mean 'width'?"):
        make({"widht": "15"})


@pytest.mark.parametrize("field, text, words", [
    ("width", "x", "`width` of Shape must be int. Received: 'x'"),
    ("width", "1.5", "must be int"),
    ("bias", "yes", "must be bool"),
    ("inner", "", "must be int or None"),
    ("windows", "2,x", "must be tuple of int. Received: '2,x'"),
])
def test_a_text_of_the_wrong_type_is_refused(field, text, words):
    with pytest.raises(ValueError, match=words):
        Shape.parse({field: text})


def test_a_config_is_made_from_a_dict_only():
    with pytest.raises(TypeError, match="made from a dict"):
        Shape.from_dict([("width", 15)])

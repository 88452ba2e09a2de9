"""Families, presets and tasks by name."""
import dataclasses

import pytest

from kzoo import registry
from kzoo.config import Config
from kzoo.registry import Family, Preset


@dataclasses.dataclass(frozen=True)
class TinyConfig(Config):
    width: int = 3


def family(name, config=TinyConfig, presets=(), tasks=("text-generation",)):
    rows = {preset: Preset(config(), 7, "made up") for preset in presets}
    return Family(name, config, backbone=None, presets=rows, tasks=tasks, layouts=())


def config_of_another_file():
    """A config class that seems to be defined in another file."""
    made = dataclasses.make_dataclass("OtherConfig", [("width", int, 5)], bases=(Config,), frozen=True)
    made.__module__ = "another.file"
    return made


@pytest.fixture
def empty(monkeypatch):
    """A registry of its own, that does not import the real families."""
    monkeypatch.setattr(registry, "_FAMILIES", {})
    monkeypatch.setattr(registry.importlib, "import_module", lambda name: None)


def test_what_is_registered_is_found(empty):
    tiny = registry.register(family("tiny", presets=("tiny-small", "tiny-large")))
    assert registry.get_family("tiny") is tiny
    assert registry.get_preset("tiny-large") == (tiny, tiny.presets["tiny-large"])
    assert [row["name"] for row in registry.list_models()] == ["tiny-small", "tiny-large"]
    assert registry.list_models()[0] == {"name": "tiny-small", "family": "tiny", "parameters": 7,
                                         "tasks": ["text-generation"], "source": "made up"}


@pytest.mark.parametrize("name, presets", [("tiny", ()), ("other", ("tiny-small",)), ("tiny-small", ())])
def test_a_name_that_is_taken_is_refused(empty, name, presets):
    registry.register(family("tiny", presets=("tiny-small",)))
    with pytest.raises(ValueError, match="is registered already, by"):
        registry.register(family(name, config_of_another_file(), presets))


def test_a_file_that_is_loaded_again_replaces_its_family(empty):
    registry.register(family("tiny"))
    again = registry.register(family("tiny"))
    assert registry.get_family("tiny") is again


@pytest.mark.parametrize("look_up, name, words", [
    (registry.get_family, "tinny", "Unknown family 'tinny'. Did you mean 'tiny'?"),
    (registry.get_preset, "tiny-smal", "Unknown preset 'tiny-smal'. Did you mean 'tiny-small'?"),
    (registry.get_task_class, "text-generatoin", "Unknown task 'text-generatoin'. Did you mean 'text-generation'?"),
])
def test_an_unknown_name_is_refused_with_the_closest(empty, look_up, name, words):
    registry.register(family("tiny", presets=("tiny-small",)))
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        look_up(name)


def test_a_task_that_the_family_cannot_serve_is_refused():
    with pytest.raises(ValueError, match="'tiny' cannot serve the task 'text-generation'. It can: fill-mask.*by: gpt2"):
        registry.get_task_class("text-generation", family("tiny", tasks=("fill-mask",)))


def test_every_task_of_a_family_has_a_class_that_serves_it():
    for task in {task for family in registry.families().values() for task in family.tasks}:
        assert task in registry.get_task_class(task).tasks


def test_every_preset_is_described():
    for row in registry.list_models():
        assert row["parameters"] > 0 and row["source"], row
        assert set(row["tasks"]) <= set(registry.TASKS), row

"""docs/patterns.md: the page that docs/make_patterns.py writes has every part that is registered."""
import importlib.util
import pathlib
import re

import pytest

from kzoo.layers.part_names import PATTERNS, POSITIONS, part_name

DOCS = pathlib.Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("make_patterns", DOCS / "make_patterns.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_script_tries_all_that_is_registered(script):
    assert [part_name(value) for value in script.PATTERN_VALUES] == list(PATTERNS) == list(script.COSTS)
    assert [part_name(value) for value in script.POSITION_VALUES] == list(POSITIONS)


def test_the_page_is_that_of_the_script(script):
    page = (DOCS / "patterns.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", page, re.M)
    assert [name for name, _ in rows] == [*PATTERNS, *POSITIONS]
    for _, cells in rows:
        assert len(re.findall(r"\b(?:yes|no|untried)\b", cells)) == 5
    assert page.startswith(script.HEAD) and page.endswith(script.TAIL)
    assert (DOCS / "long_attention.svg").is_file()
    for pattern, position, why in script.pairs():
        assert f"- `{pattern}` with `{position}`: {why}" in page


def test_a_reason_stands_once_below_its_table(script):
    page = script.render({"Patterns": [("`a`", "no: too long", "yes", "no: too long", "yes", "no: other", "T")]}, [])
    assert "| `a` | no (1) | yes | no (1) | yes | no (2) | T |" in page
    assert page.count("too long") == 1 and "2. other" in page

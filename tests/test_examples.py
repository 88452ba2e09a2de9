"""Every example runs to its end, made smaller."""
import importlib
import pathlib
import re
import runpy

import pytest

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
# Example -> (its constants, made smaller; a line that it must print).
EXAMPLES = {
    "train_and_export.py": ({"LAYERS": "1", "EPOCHS": "1", "WINDOW": "16", "STRIDE": "64"}, r"tflite .* passed"),
    "load_and_generate.py": ({"NEW_TOKENS": "7"}, r".*the same continuation"),
    "text_classification.py": ({"PACKAGES": '("logging", "xml")', "EPOCHS": "1"},
                               r"accuracy [01]\.\d{3}, macro F1 [01]\.\d{3} on \d\d+ held-out texts"),
    "feature_extraction.py": ({"SHOWN": "1"}, r"the nearest other text is about the same package for \d+ % of \d\d+"),
    "fill_mask.py": ({"LINES": "200", "HELD_OUT": "20", "PASSES": "1"},
                     r"right for \d+ % of the hidden tokens of 20 held-out lines"),
    "token_classification.py": ({"COUNT": "60", "HELD_OUT": "10", "EPOCHS": "1"},
                                r"F1 [01]\.\d{3} of the spans in 10 held-out sentences"),
    "question_answering.py": ({"COUNT": "300", "HELD_OUT": "10", "EPOCHS": "1"},
                              r"exact match \d+\.\d, F1 \d+\.\d on 10 held-out questions"),
    "translation.py": ({"PAIRS": "600", "HELD_OUT": "4", "STEPS": "2", "WARMUP_STEPS": "1", "LAYERS": "1"},
                       r"right to the letter: \d+\.\d % of 4 held-out texts"),
    "summarization.py": ({"COUNT": "300", "HELD_OUT": "4", "STEPS": "2", "WARMUP_STEPS": "1", "LAYERS": "1"},
                         r"rouge1 \d.*, rougeL \d.* on 4 held-out messages"),
}

# Example -> the one that uses what it leaves.
AFTER = {"train_and_export.py": "load_and_generate.py", "text_classification.py": "feature_extraction.py"}


def shrink(text, constants):
    """The source with other values for its constants; each must be there, at the start of a line."""
    for name, value in constants.items():
        text, count = re.subn(rf"^{name} = .+$", f"{name} = {value}", text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"The example has {count} lines that set {name}.")
    return text


def test_every_example_is_tested():
    assert {path.name for path in (CHECKOUT / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in AFTER.values()])
def test_an_example_runs_and_measures(name, tmp_path, monkeypatch, capsys, run_here):
    monkeypatch.chdir(tmp_path)
    for module in ("exporter", "verify"):  # by import: `kzoo.export.verify` is the function, too
        monkeypatch.setattr(importlib.import_module(f"kzoo.export.{module}"), "run_worker", run_here)
    for each in (name, AFTER[name]) if name in AFTER else (name,):
        constants, expected = EXAMPLES[each]
        text = shrink((CHECKOUT / "examples" / each).read_text(encoding="utf-8"), constants)
        (tmp_path / each).write_text(text, encoding="utf-8")
        runpy.run_path(str(tmp_path / each), run_name="__main__")
        rows = capsys.readouterr().out.splitlines()
        assert any(re.fullmatch(expected, row.strip()) for row in rows), rows
        assert not any("FAILED" in row for row in rows)


@pytest.mark.parametrize("first, then", AFTER.items())
def test_an_example_names_the_one_that_comes_before_it(first, then, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=f"is missing. Run examples/{first} here first"):
        runpy.run_path(str(CHECKOUT / "examples" / then), run_name="__main__")
    assert not list(tmp_path.iterdir())


def test_examples_use_public_names_only():
    for name in EXAMPLES:
        text = (CHECKOUT / "examples" / name).read_text(encoding="utf-8")
        assert re.findall(r"^from kzoo\.(\w+)", text, re.MULTILINE) in ([], ["export"]), name
        assert not re.search(r"\._[a-z]", text), name


def test_a_constant_that_is_gone_is_noticed():
    with pytest.raises(ValueError, match="has 0 lines that set STEPS"):
        shrink("EPOCHS = 3\n", {"STEPS": "1"})

"""Encoded rows on disk: they come back, and only whole ones of the same source do."""
import numpy as np
import pytest

from kzoo.training.example_files import ExampleWriter, Ragged, open_examples

ROWS = [{"ids": [5, 6, 7], "tags": [1, 2, 3], "label": 2}, {"ids": [8], "tags": [4], "label": 0},
        {"ids": [9, 10], "tags": [5, 6], "label": 1}]


def write(folder, source="a", rows=ROWS):
    with ExampleWriter(folder, "part", ("ids", "tags"), ("label",)) as writer:
        writer.add(rows[:2])
        writer.add(rows[2:])
        writer.finish({"of": source}, {"cut": 3})


def test_round_trip(tmp_path):
    write(tmp_path)
    found = open_examples(tmp_path, "part", {"of": "a"})
    assert len(found) == 3 and found.facts == {"cut": 3}
    for number, row in enumerate(ROWS):
        assert found["ids"][number].tolist() == row["ids"] and found["tags"][number].tolist() == row["tags"]
    assert found["label"].tolist() == [2, 0, 1]
    assert isinstance(found["ids"].values, np.memmap)


def test_padded_rows_are_those_written_out():
    ragged = Ragged(np.arange(10, 16), [3, 1, 2])
    np.testing.assert_array_equal(ragged.padded(np.array([2, 0, 0]), 4, fill=-1),
                                  [[14, 15, -1, -1], [10, 11, 12, -1], [10, 11, 12, -1]])
    assert ragged.padded(np.array([1]), 1).tolist() == [[13]]


def test_no_rows_are_no_error(tmp_path):
    write(tmp_path, rows=[])
    assert len(open_examples(tmp_path, "part", {"of": "a"})) == 0


@pytest.mark.parametrize("damage", ["other source", "cut", "absent", "no record", "unfinished"])
def test_anything_else_is_not_taken(tmp_path, damage):
    write(tmp_path)
    path = tmp_path / "part.tags.values"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "absent":
        path.unlink()
    elif damage == "no record":
        (tmp_path / "part.json").write_text("{")
    elif damage == "unfinished":
        with pytest.raises(KeyboardInterrupt), ExampleWriter(tmp_path, "part", ("ids", "tags"), ("label",)) as writer:
            writer.add(ROWS)
            raise KeyboardInterrupt
    source = {"of": "b" if damage == "other source" else "a"}
    assert open_examples(tmp_path, "part", source) is None
    write(tmp_path, source["of"])
    assert len(open_examples(tmp_path, "part", source)) == 3

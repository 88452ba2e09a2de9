"""Which weights a run ends with, by formulas on the weights themselves."""
import keras
import numpy as np
import pytest

from kzoo.training.options import TrainOptions
from kzoo.training.selection import Selection

LOSSES = [3.0, 1.0, 2.0, 1.0]  # after steps 5, 10, 15, 20


def run(folder, metric="loss", values=LOSSES, **options):
    """A Selection after training whose weights are the number of the step, and its history."""
    variable = keras.Variable(np.zeros((2, 3)), dtype="float32")
    selection = Selection(folder, TrainOptions(**options), metric, {"kernel": variable})
    history = []
    for number, value in enumerate(values, 1):
        variable.assign(np.full((2, 3), 5.0 * number))
        history.append({"step": 5 * number, f"valid_{metric}": value})
        selection.save(history)
    return selection, history, variable


def kept(folder):
    return sorted(int(path.stem.split("-")[1]) for path in folder.glob("weights-*"))


def finish(selection, history, variable, average=9.0):
    told = selection.finish(history, lambda: {selection.metric: average})
    return told, float(keras.ops.convert_to_numpy(variable)[1, 2])


def test_the_last_needs_no_files(tmp_path):
    parts = run(tmp_path)
    assert kept(tmp_path) == []
    assert finish(*parts) == ({"kept": "step 20"}, 20.0)


def test_the_best_is_the_first_of_equals(tmp_path):
    parts = run(tmp_path, keep="best")
    assert kept(tmp_path) == [10]
    assert finish(*parts) == ({"kept": "step 10"}, 10.0)


def test_the_best_accuracy_is_the_largest(tmp_path):
    assert finish(*run(tmp_path, "accuracy", [0.5, 0.7, 0.6], keep="best"))[1] == 10.0


def test_the_mean_of_the_last(tmp_path):
    parts = run(tmp_path, average_checkpoints=3)
    assert kept(tmp_path) == [10, 15, 20]
    told, value = finish(*parts)
    assert value == (10 + 15 + 20) / 3
    assert told == {"kept": "mean of steps 10, 15, 20", "average": {"loss": 9.0}}


@pytest.mark.parametrize("average, expected, words", [(0.5, 17.5, "mean of steps 15, 20"), (1.5, 10.0, "step 10")])
def test_the_better_of_the_mean_and_the_best(tmp_path, average, expected, words):
    parts = run(tmp_path, keep="best", average_checkpoints=2)
    assert kept(tmp_path) == [10, 15, 20]
    told, value = finish(*parts, average=average)
    assert (told["kept"], told["average"], value) == (words, {"loss": average}, expected)


def test_patience_counts_validations_since_the_best(tmp_path):
    selection, history, _ = run(tmp_path, patience=2)
    assert [selection.should_stop(history[:count]) for count in range(5)] == [False, False, False, False, True]
    assert not run(tmp_path, patience=3)[0].should_stop(history)
    assert not run(tmp_path)[0].should_stop(history)


def test_a_resumed_run_writes_over_what_a_killed_one_left(tmp_path):
    run(tmp_path, average_checkpoints=2)
    selection, history, variable = run(tmp_path, values=LOSSES[:2], average_checkpoints=2)
    assert kept(tmp_path) == [5, 10]
    assert finish(selection, history, variable)[1] == 7.5

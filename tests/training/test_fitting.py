"""How a run is cut into calls of fit, and which variables a checkpoint holds."""
import pytest

import kzoo
from kzoo.training.fitting import _state, _stretches
from kzoo.training.optimizer import make_optimizer
from kzoo.training.options import TrainOptions


@pytest.mark.parametrize("step, expected", [
    (0, [(0, 9, 3), (9, 11, 2)]), (3, [(3, 9, 3), (9, 11, 2)]), (9, [(9, 11, 2)]), (11, [])])
def test_whole_intervals_then_the_rest(step, expected):
    assert list(_stretches(step, 11, 3)) == expected


def test_a_run_of_whole_intervals_has_no_rest():
    assert list(_stretches(0, 9, 3)) == [(0, 9, 3)]
    assert list(_stretches(0, 2, 2)) == [(0, 2, 2)]


def make():
    model = kzoo.create("gpt2-nano", num_layers=1, num_heads=2, hidden_dim=6, dropout=0.2)
    return model, make_optimizer(TrainOptions(steps=3).resolve(5, 3), model.trainable_variables)


def test_the_state_is_everything_that_changes_under_names_that_do_not():
    (model, optimizer), (other, other_optimizer) = make(), make()
    state = _state(model, model, optimizer)
    assert len(state) == len(model.variables) + len(optimizer.variables)
    assert list(state) == list(_state(other, other, other_optimizer))
    seeds = [variable for layer in model._flatten_layers() if isinstance(layer, kzoo.layers.Dropout)
             for variable in layer.variables]
    assert seeds and {id(seed) for seed in seeds} <= {id(variable) for variable in state.values()}
    assert "model/gpt2/token_embedding/embeddings" in state

"""Options: bad values refused by name, defaults filled in, words read as the field's type."""
import dataclasses

import pytest

from kzoo.config import Config
from kzoo.training.options import FREE, TrainOptions, parse_overrides


@pytest.mark.parametrize("change, words", [
    ({"steps": 0}, "`steps`.*at least 1"),
    ({"batch_size": -3}, "`batch_size`.*at least 1"),
    ({"interval": 0}, "`interval`.*at least 1"),
    ({"learning_rate": 0.0}, "`learning_rate`.*above 0"),
    ({"learning_rate": float("nan")}, "`learning_rate`.*finite"),
    ({"min_learning_rate": 0.1}, r"at most `learning_rate` \(0.001\)"),
    ({"beta_2": 1.0}, "`beta_2`.*below 1"),
    ({"validation_split": 1.0}, "`validation_split`.*below 1"),
    ({"clip_norm": -1.0}, "`clip_norm`.*at least 0"),
    ({"steps": 5, "epochs": 1}, "exclude each other"),
    ({"steps": 5, "warmup_steps": 5}, r"below `steps` \(5\)"),
    ({"seed": -1}, "`seed`"),
    ({"interval": "epochs"}, '`interval`.*at least 1, or "epoch"'),
    ({"truncate": "middle"}, "Unknown `truncate` 'middle'"),
    ({"keep": "bets"}, "Did you mean 'best'"),
    ({"average_checkpoints": -1}, "`average_checkpoints`.*at least 0"),
    ({"patience": 0}, "`patience`.*at least 1"),
    ({"batch_tokens": 0}, "`batch_tokens`.*at least 1"),
    ({"adam_epsilon": 0.0}, "`adam_epsilon`.*above 0"),
    ({"initial_learning_rate": 0.1}, r"`initial_learning_rate`.*at most `learning_rate` \(0.001\)"),
    ({"schedule": "cosin"}, "Did you mean 'cosine'"),
    ({"jit": "yes"}, "Unknown `jit`"),
    ({"mixed_precision": "float8"}, "`mixed_precision` .float8."),
])
def test_bad_values_are_refused_by_name(change, words):
    with pytest.raises(ValueError, match=words):
        TrainOptions(**change)


def test_unknown_names_and_wrong_types_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'learning_rate'"):
        TrainOptions.from_dict({"learning_rat": 0.1})
    with pytest.raises(TypeError, match="`steps` of TrainOptions must be int or None"):
        TrainOptions(steps=2.5)


def test_resolve_fills_in_what_was_left_open():
    options = TrainOptions().resolve(64, 17)
    assert (options.sequence_length, options.steps, options.warmup_steps) == (64, 2000, 100)
    assert options.min_learning_rate == pytest.approx(1e-4)
    options = TrainOptions(epochs=3, interval=1000).resolve(64, 17)
    assert (options.steps, options.epochs, options.warmup_steps, options.interval) == (51, None, 5, 51)
    given = TrainOptions(steps=7, warmup_steps=2, min_learning_rate=0.0, interval=3)
    assert given.resolve(5, 17) == dataclasses.replace(given, sequence_length=5)


def test_an_epoch_is_as_many_steps_as_it_takes():
    assert TrainOptions(interval="epoch", epochs=3).resolve(64, 17).interval == 17
    assert TrainOptions(interval="epoch", steps=11).resolve(64, 17).interval == 11


def test_the_inverse_root_starts_and_ends_as_that_of_fairseq():
    options = TrainOptions(schedule="inverse-sqrt").resolve(64, 17)
    assert (options.initial_learning_rate, options.min_learning_rate) == (1e-7, 0.0)
    given = TrainOptions(schedule="inverse-sqrt", initial_learning_rate=1e-5, min_learning_rate=1e-4).resolve(64, 17)
    assert (given.initial_learning_rate, given.min_learning_rate) == (1e-5, 1e-4)
    assert TrainOptions().resolve(64, 17).initial_learning_rate is None


def test_the_identity_leaves_out_how_it_is_computed():
    identity = TrainOptions().identity()
    assert set(identity) == set(TrainOptions.field_names()) - set(FREE)
    assert TrainOptions(jit="off", deterministic=True).identity() == identity
    assert TrainOptions(seed=1).identity() != identity


@dataclasses.dataclass(frozen=True)
class Sizes(Config):
    count: int = 1
    limit: int | None = None
    rate: float = 0.5
    flag: bool = True
    word: str = "a"


def test_words_become_values_of_the_fields_type():
    words = {"count": "7", "limit": "none", "rate": "1e-3", "flag": "False", "word": "12"}
    assert parse_overrides(Sizes, words) == {"count": 7, "limit": None, "rate": 1e-3, "flag": False, "word": "12"}
    assert parse_overrides(Sizes, {"limit": "11", "count": 3}) == {"limit": 11, "count": 3}
    assert parse_overrides(Sizes, None) == {}


@pytest.mark.parametrize("words, message", [({"coun": "1"}, "Did you mean 'count'"), ({"count": "1.5"}, "must be int"),
                                            ({"flag": "maybe"}, "must be bool"),
                                            ({"limit": "x"}, "must be int or None")])
def test_words_that_are_no_value_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        parse_overrides(Sizes, words)

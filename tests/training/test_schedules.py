"""Learning rates against the formulas written out."""
import math

import numpy as np
import pytest
from keras import ops

from kzoo.training.schedules import SCHEDULES, WarmupSchedule

PEAK, LOWEST, WARM, STEPS = 0.3, 0.02, 7, 53


def expected(kind, step):
    if step < WARM:
        return PEAK * (step + 1) / (WARM + 1)
    done = min(1, (step - WARM) / (STEPS - WARM))
    return {"constant": PEAK, "linear": LOWEST + (PEAK - LOWEST) * (1 - done),
            "cosine": LOWEST + (PEAK - LOWEST) * 0.5 * (1 + math.cos(math.pi * done)),
            "inverse-sqrt": max(LOWEST, PEAK * math.sqrt(WARM / max(1, step)))}[kind]


@pytest.mark.parametrize("kind", SCHEDULES)
def test_agrees_with_the_formula_written_out(kind):
    schedule = WarmupSchedule(kind, PEAK, LOWEST, WARM, STEPS)
    steps = range(0, STEPS + 11)
    np.testing.assert_allclose([float(schedule(ops.convert_to_tensor(step))) for step in steps],
                               [expected(kind, step) for step in steps], rtol=1e-5)


def test_the_inverse_root_with_a_start_is_that_of_fairseq():
    """Its update number counts the updates that were made before, so the first update has the start's rate."""
    schedule = WarmupSchedule("inverse-sqrt", 5e-3, 0.0, 2000, 8000, initial=1e-7)
    rates = {0: 1e-7, 1: 1e-7 + (5e-3 - 1e-7) / 2000, 1999: 1e-7 + 1999 * (5e-3 - 1e-7) / 2000, 2000: 5e-3,
             8000: 2.5e-3}
    for update, rate in rates.items():
        assert float(schedule(update)) == pytest.approx(rate, rel=1e-5)
    assert float(WarmupSchedule("inverse-sqrt", 5e-3, 0.0, 2000, 8000)(0)) != pytest.approx(1e-7, rel=0.1)


def test_the_inverse_root_stops_at_the_minimum():
    schedule = WarmupSchedule("inverse-sqrt", PEAK, LOWEST, WARM, STEPS)
    assert float(schedule(10_000)) == pytest.approx(LOWEST)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_without_warmup_the_first_step_has_the_peak(kind):
    assert float(WarmupSchedule(kind, PEAK, LOWEST, 0, 1)(0)) == pytest.approx(PEAK)


def test_the_batches_of_one_step_have_one_rate():
    schedule, batched = (WarmupSchedule("cosine", PEAK, LOWEST, WARM, STEPS, batches) for batches in (1, 3))
    assert [float(batched(batch)) for batch in range(33)] == [float(schedule(batch // 3)) for batch in range(33)]


def test_config_round_trip():
    schedule = WarmupSchedule("linear", PEAK, LOWEST, WARM, STEPS, initial=0.01)
    again = WarmupSchedule.from_config(schedule.get_config())
    assert [float(again(step)) for step in (1, 31)] == [float(schedule(step)) for step in (1, 31)]
    assert float(again(32)) != float(schedule(31))


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        WarmupSchedule("cosin", PEAK, LOWEST, WARM, STEPS)

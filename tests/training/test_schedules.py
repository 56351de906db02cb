from itertools import pairwise

import pytest

from atrous.training.schedules import compute_ema_decay, compute_lr


def rates(schedule: str, **options) -> list[float]:
    options = {"peak_lr": 1.0, "total_steps": 100, **options}
    return [compute_lr(step, schedule=schedule, **options) for step in range(100)]


def test_poly_is_the_papers():
    assert rates("poly") == pytest.approx([(1 - step / 100) ** 0.9 for step in range(100)])


def test_step_divides_by_ten_from_each_milestone_on():
    found = rates("step", step_at=[50, 80])
    assert found[49] == 1.0
    assert found[50:80] == pytest.approx([0.1] * 30)
    assert found[80:] == pytest.approx([0.01] * 20)


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant", "step"])
def test_warmup_rises_to_the_peak_and_the_rate_never_rises_again(schedule):
    found = rates(schedule, warmup_steps=10)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[10] == 1.0
    assert all(later <= before for before, later in pairwise(found[10:]))
    assert found[-1] > 0


def test_the_moving_average_warms_up():
    assert compute_ema_decay(0, 0.999) == pytest.approx(0.1)
    assert compute_ema_decay(10**6, 0.999) == 0.999

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.control.rate import Pacer, Spread
from robot_rl.errors import ConfigError


class Clock:
    """A clock that moves only when told; sleeping may take longer than asked."""

    def __init__(self, oversleep_ns: int = 0) -> None:
        self.now = 5_000_000_000
        self.oversleep = oversleep_ns

    def __call__(self) -> int:
        self.now += 1000  # looking takes a microsecond, so that spinning ends
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9) + self.oversleep


def pacer(clock: Clock, rate_hz: float = 100.0, **options: object) -> Pacer:
    return Pacer(rate_hz, ("work",), clock_ns=clock, sleep_s=clock.sleep, **options)  # type: ignore[arg-type]


def run(pace: Pacer, clock: Clock, work_ms: list[float]) -> list[float]:
    """Starts of the ticks, ms since the first."""
    starts: list[float] = []
    for work in work_ms:
        pace.wait()
        starts.append(clock.now / 1e6)
        clock.now += round(work * 1e6)
        pace.mark()
    return [round(s - starts[0], 3) for s in starts]


def test_ticks_stay_on_the_grid_after_an_overrun() -> None:
    clock = Clock()
    pace = pacer(clock)
    starts = run(pace, clock, [1, 13, 1, 1, 35, 1])
    assert starts == pytest.approx([0, 10, 30, 40, 50, 90], abs=0.005)
    assert pace.missed == 1 + 3
    assert pace.ticks == 6


def test_late_wake_up_does_not_shift_later_deadlines() -> None:
    clock = Clock(oversleep_ns=1_300_000)  # a millisecond late, after the spin's share
    pace = pacer(clock)
    assert run(pace, clock, [2, 2, 2, 2]) == pytest.approx([0, 11, 21, 31], abs=0.005)
    assert pace.missed == 0
    assert pace.lateness_us()[1:] == pytest.approx([1000] * 3, abs=5)


def test_sleeping_through_a_whole_period_misses_it() -> None:
    clock = Clock(oversleep_ns=12_300_000)  # wakes 12 ms late, 2 ms into the next period
    pace = pacer(clock)
    assert run(pace, clock, [1, 1, 1]) == pytest.approx([0, 22, 42], abs=0.01)
    assert pace.missed == 1 + 1  # points 1 and 3; the ticks belong to 0, 2 and 4
    assert pace.lateness_us() == pytest.approx([0, 2000, 2000], abs=10)


def test_pause_skips_grid_points_without_missing_them_or_counting_the_gap() -> None:
    clock = Clock()
    pace = pacer(clock)
    run(pace, clock, [1, 1])
    clock.now += 47_000_000
    pace.pause()
    run(pace, clock, [1, 1])
    assert pace.missed == 0
    assert pace.period_us() == pytest.approx([10_000, 10_000], abs=5)
    assert pace.lateness_us() == pytest.approx([0] * 4, abs=5)


@given(st.lists(st.floats(0, 45), min_size=1, max_size=40), st.sampled_from([3.0, 30.0, 100.0, 333.0, 500.0]))
def test_every_start_belongs_to_its_own_grid_point_and_all_are_accounted_for(
    work_ms: list[float], rate_hz: float
) -> None:
    clock = Clock()
    pace = pacer(clock, rate_hz)
    starts = run(pace, clock, work_ms)
    points = [round(s * rate_hz / 1e3) for s in starts]
    assert len(set(points)) == len(points)
    assert np.abs(np.array(points) / rate_hz * 1e3 - starts).max() < 0.005
    assert points[-1] + 1 == pace.ticks + pace.missed


def test_statistics_by_hand() -> None:
    clock = Clock()
    pace = pacer(clock)
    run(pace, clock, [1, 2, 3])
    assert pace.compute_us() == pytest.approx([1000, 2000, 3000], abs=2)
    assert pace.phase_us("work") == pytest.approx([1000, 2000, 3000], abs=2)
    spread = Spread.of(np.array([1.0, 2.0, 9.0]))
    assert (spread.p50, spread.max) == (2.0, 9.0)
    assert np.isnan(Spread.of(np.zeros(0)).p50)


def test_statistics_keep_the_last_ticks_in_order() -> None:
    clock = Clock()
    pace = pacer(clock, kept_ticks=3)
    run(pace, clock, [1, 2, 3, 4, 5])
    assert pace.compute_us() == pytest.approx([3000, 4000, 5000], abs=5)
    assert pace.ticks == 5


def test_without_pacing_nothing_waits_or_misses() -> None:
    clock = Clock()
    pace = pacer(clock, paced=False)
    assert run(pace, clock, [1, 30, 1]) == pytest.approx([0, 1, 31], abs=0.005)
    assert pace.missed == 0
    assert len(pace.lateness_us()) == 0


def test_rate_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        Pacer(0.0, ())

"""A fixed grid of deadlines on the monotonic clock, and statistics of how well it was kept.

Deadline k is start + k / rate, computed from the start each time: an early or late tick never shifts
the ones that follow. A tick that runs over its deadline misses it; the next one begins at the next
point of the same grid.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError

SPIN_NS = 300_000  # the last part of a wait is spent looking at the clock: sleeping wakes up late
KEPT_TICKS = 1_000_000  # statistics look at the last so many


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Minimum, median, high percentiles and maximum, microseconds; NaN where nothing was measured."""

    min: float
    p50: float
    p99: float
    p999: float  # 99.9 %
    max: float

    @staticmethod
    def of(values_us: NDArray[np.float64]) -> Spread:
        """Of a series, (N,), microseconds."""
        if len(values_us) == 0:
            return Spread(min=np.nan, p50=np.nan, p99=np.nan, p999=np.nan, max=np.nan)
        low, p50, p99, p999, high = np.percentile(values_us, (0, 50, 99, 99.9, 100)).tolist()
        return Spread(min=low, p50=p50, p99=p99, p999=p999, max=high)


class Pacer:
    """Waits for the deadlines of a grid and notes how each tick went.

    Args:
        rate_hz: Ticks a second.
        phases: Names of the parts of a tick, in order; `mark` ends each.
        beside: How many of the last phases are no work of the tick, such as a simulator's physics.
        paced: False to run without waiting, for a simulator; then no deadline is missed.
        kept_ticks: How many of the last ticks the statistics look at.
        clock_ns: Monotonic clock, ns.
        sleep_s: Sleeps for seconds; may wake up late.

    Use, each tick: `wait()`, then the work with a `mark()` after each phase.
    """

    def __init__(
        self,
        rate_hz: float,
        phases: tuple[str, ...],
        *,
        beside: int = 0,
        paced: bool = True,
        kept_ticks: int = KEPT_TICKS,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        sleep_s: Callable[[float], None] = time.sleep,
    ) -> None:
        if not rate_hz > 0 or kept_ticks < 1:
            raise ConfigError(f"rate_hz is {rate_hz:g} and kept_ticks {kept_ticks}; both must be above 0.")
        self.rate_hz, self.phases, self.paced = rate_hz, phases, paced
        self._work_ends = 1 + len(phases) - beside  # column
        self._clock, self._sleep = clock_ns, sleep_s
        # Columns: start, deadline, then the end of each phase; ns since `_origin`, exact in float64.
        self._log = np.full((min(kept_ticks, KEPT_TICKS), 2 + len(phases)), np.nan)
        self._fresh = np.zeros(len(self._log), bool)  # begins a new stretch: its period means nothing
        self.ticks = 0
        self.missed = 0
        self.skipped = 0  # deadlines missed right before this tick
        self._k = -1  # last grid point used or passed
        self._origin = 0
        self._resumed = True
        self._row = self._log[0]
        self._phase = 2
        self._warm_up: Callable[[], object] | None = None

    def wait(self, warm_up: Callable[[], object] | None = None) -> None:
        """Return at the next grid point; the first call returns at once and starts the grid.

        Args:
            warm_up: Called in place of the first part of the watching of the clock, where there is time: work
                without effect that brings the tick's data back into the caches.
        """
        self._warm_up = warm_up
        now = self._clock()
        if self.ticks == 0:
            self._origin = now
        index = self.ticks % len(self._log)
        self._row = row = self._log[index]  # touched before the wait: it is memory that was not used for long
        row[:] = np.nan
        self._fresh[index] = self._resumed
        self._phase = 2
        row[0], row[1] = self._wait_for_grid(now) if self.paced else (now - self._origin, 0)
        self._resumed = False
        self.ticks += 1

    def mark(self) -> None:
        """Note that the tick's next phase has ended."""
        self._row[self._phase] = self._clock() - self._origin
        self._phase += 1

    @property
    def times_ns(self) -> NDArray[np.float64]:
        """Start, deadline and ends of the phases of this tick, ns since the first; NaN where still to come."""
        return self._row

    def pause(self) -> None:
        """The next wait comes after something that is no tick, such as a simulator's reset.

        Grid points that pass meanwhile are not missed ones; the grid itself stays.
        """
        self._resumed = True

    def period_us(self) -> NDArray[np.float64]:
        """Time between the starts of consecutive ticks, (N,), microseconds."""
        rows, fresh = self._ordered()
        return np.diff(rows[:, 0])[~fresh[1:]] / 1e3

    def lateness_us(self) -> NDArray[np.float64]:
        """Start of each tick behind its deadline, (N,), microseconds; empty when not paced."""
        rows, _ = self._ordered()
        return (rows[:, 0] - rows[:, 1]) / 1e3 if self.paced else np.zeros(0)

    def compute_us(self) -> NDArray[np.float64]:
        """Work of each complete tick, (N,), microseconds, without the phases beside it."""
        rows, _ = self._ordered()
        spent = (rows[:, self._work_ends] - rows[:, 0]) / 1e3
        return spent[np.isfinite(spent)]

    def phase_us(self, name: str) -> NDArray[np.float64]:
        """Work of one phase of each complete tick, (N,), microseconds."""
        rows, _ = self._ordered()
        column = 2 + self.phases.index(name)
        before = 0 if column == 2 else column - 1
        spent = (rows[:, column] - rows[:, before]) / 1e3
        return spent[np.isfinite(spent)]

    def _wait_for_grid(self, now: int) -> tuple[int, int]:
        """Time and deadline, ns since the start, at which the tick begins."""
        since = now - self._origin
        due = self._k + 1
        k = max(due, self._next_point(since))
        since = self._wait_until(self._origin + self._deadline(k)) - self._origin
        if since >= self._deadline(k + 1):  # slept a whole period too long: begin late, do not sleep again
            later = self._next_point(since)
            k = later if self._deadline(later) == since else later - 1
        self.skipped = 0 if self._resumed else k - due  # points that have passed unused
        self.missed += self.skipped
        self._k = k
        return since, self._deadline(k)

    def _next_point(self, since: int) -> int:
        """First grid point at or after a time, ns since the start."""
        k = int(since * self.rate_hz / 1e9)
        return k + (self._deadline(k) < since)

    def _deadline(self, k: int) -> int:
        return round(k * 1e9 / self.rate_hz)

    def _wait_until(self, deadline: int) -> int:
        now = self._clock()
        if deadline - now > SPIN_NS:
            self._sleep((deadline - now - SPIN_NS) / 1e9)
            if self._warm_up is not None:
                self._warm_up()
        while (now := self._clock()) < deadline:
            pass
        return now

    def _ordered(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        size = len(self._log)
        if self.ticks <= size:
            return self._log[: self.ticks], self._fresh[: self.ticks]
        shift = -(self.ticks % size)
        return np.roll(self._log, shift, axis=0), np.roll(self._fresh, shift)

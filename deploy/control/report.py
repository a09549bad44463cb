"""What a served session did, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.arms.arm import Arm
from deploy.bundle.contract import Contract
from deploy.control.rate import Pacer, Spread
from deploy.safety.supervisor import Supervisor


class Ending(Enum):
    """Why a session ended."""

    DURATION = "duration reached"
    EPISODES = "episodes done"
    OPERATOR = "stopped by the operator"
    STOPPED = "stop latched by the supervisor"


@dataclass(frozen=True, kw_only=True)
class ServeReport:
    """Figures of one session; times in microseconds.

    Args:
        arm: Its name.
        run: Training run behind the policy.
        weight_version: Gradient updates behind the weights.
        rate_hz: Control rate, Hz.
        paced: Whether deadlines were kept; False for as fast as the simulator went.
        ending: Why it ended.
        stop_causes: What latched the stop; empty where none did.
        ticks: Control steps.
        missed: Deadlines of the grid on which no tick began.
        period: Between the starts of consecutive ticks.
        lateness: Start of ticks behind their deadlines.
        compute: Work of ticks; a simulated arm's physics are a phase beside it.
        phases: The same by part of the tick.
        verdicts: Ticks by what became of the asked command.
        reasons: Ticks by cause of a change.
        episodes: Episodes finished.
        returns: Their sums of rewards.
        success_rate: Share of successful episodes; None where nobody knows.
        series: Period and compute of each kept tick, for plots; left out of the JSON form.
        recording: The session's file; None where it was not recorded.
    """

    arm: str
    run: str
    weight_version: int
    rate_hz: float
    paced: bool
    ending: Ending
    stop_causes: tuple[str, ...]
    ticks: int
    missed: int
    period: Spread
    lateness: Spread
    compute: Spread
    phases: dict[str, Spread]
    verdicts: dict[str, int]
    reasons: dict[str, int]
    episodes: int
    returns: tuple[float, ...]
    success_rate: float | None
    series: dict[str, NDArray[np.float64]]
    recording: Path | None = None

    def recorded_at(self, path: Path) -> ServeReport:
        """The same with the session's file."""
        return replace(self, recording=path)

    @staticmethod
    def of(
        contract: Contract,
        arm: Arm,
        supervisor: Supervisor,
        pacer: Pacer,
        *,
        ending: Ending,
        returns: Sequence[float],
        successes: Sequence[bool | None],
    ) -> ServeReport:
        """Gather the figures of a finished loop."""
        known = [s for s in successes if s is not None]
        series = {"period": pacer.period_us(), "compute": pacer.compute_us()}
        return ServeReport(
            arm=arm.name,
            run=contract.run,
            weight_version=contract.weight_version,
            rate_hz=pacer.rate_hz,
            paced=pacer.paced,
            ending=ending,
            stop_causes=tuple(map(str, supervisor.stopped)),
            ticks=pacer.ticks,
            missed=pacer.missed,
            period=Spread.of(series["period"]),
            lateness=Spread.of(pacer.lateness_us()),
            compute=Spread.of(series["compute"]),
            phases={name: Spread.of(pacer.phase_us(name)) for name in pacer.phases},
            verdicts={v.value: n for v, n in supervisor.verdicts.most_common()},
            reasons={r.value: n for r, n in supervisor.reasons.most_common()},
            episodes=len(returns),
            returns=tuple(returns),
            success_rate=float(np.mean(known)) if known and len(known) == len(successes) else None,
            series=series,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; NaN becomes null."""
        return {
            "arm": self.arm,
            "run": self.run,
            "weight_version": self.weight_version,
            "rate_hz": self.rate_hz,
            "paced": self.paced,
            "ending": self.ending.value,
            "stop_causes": list(self.stop_causes),
            "ticks": self.ticks,
            "missed": self.missed,
            "period_us": _spread(self.period),
            "lateness_us": _spread(self.lateness),
            "compute_us": _spread(self.compute),
            "phases_us": {name: _spread(spread) for name, spread in self.phases.items()},
            "verdicts": self.verdicts,
            "reasons": self.reasons,
            "episodes": self.episodes,
            "returns": list(self.returns),
            "success_rate": self.success_rate,
            "recording": None if self.recording is None else str(self.recording),
        }


def _spread(spread: Spread) -> dict[str, float | None]:
    return {key: value if np.isfinite(value) else None for key, value in asdict(spread).items()}

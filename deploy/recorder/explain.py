"""What a recorded session's supervisor did, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploy.safety.decision import Reason, Verdict
from robot_rl.data.session import DECISION, TIMING, Session

UNITS = {
    Reason.POSITION: "rad",
    Reason.VELOCITY: "rad/s",
    Reason.ACCELERATION: "rad/s",
    Reason.JERK: "rad/s",
    Reason.FIRST_COMMANDS: "rad/s",
    Reason.WORKSPACE: "m",
    Reason.GRIPPER: "m",
    Reason.MEASURED_POSITION: "rad",
    Reason.MEASURED_VELOCITY: "rad/s",
    Reason.MEASURED_TOOL: "m",
    Reason.STALE: "s",
    Reason.OPERATOR_SILENT: "s",
}
TOOL_PARTS = ("translation", "rotation")  # judged as norms of the action's parts, each number in [-1, 1]
REACHED = (Reason.ACCELERATION, Reason.JERK)  # their "limit" is the speed that could be reached in a tick


@dataclass
class Stretch:
    """One cause, over consecutive ticks.

    Args:
        first: Tick on which it began.
        last: Tick on which it was seen last.
        start_s: Time of the first, s since the session's first tick.
        verdict: What became of the commands.
        reason: The rule.
        where: Joint, axis or signal.
        asked: The value furthest from the limit; None where there is no number.
        limit: What it might have been then; None likewise.
    """

    first: int
    last: int
    start_s: float
    verdict: Verdict
    reason: Reason
    where: str
    asked: float | None
    limit: float | None

    def __str__(self) -> str:
        ticks = f"tick {self.first:,}" if self.first == self.last else f"ticks {self.first:,} to {self.last:,}"
        return f"{ticks} ({self.start_s:.2f} s), {self.verdict.value}: {self._what()}"

    def _what(self) -> str:
        if self.asked is None or self.limit is None:
            return f"{self.reason.value} ({self.where})"
        unit = "of the action's range" if self.where in TOOL_PARTS else UNITS.get(self.reason, "")
        most = "" if self.first == self.last else "up to "
        word = "could reach" if self.reason in REACHED else "limit"
        numbers = f"{most}{self.asked:.4g} {unit}".rstrip() + f", {word} {self.limit:.4g}"
        return f"{self.where} asked {numbers} ({self.reason.value})"


def explain(session: Session) -> Iterator[Stretch]:
    """Every change of a command in a session, consecutive ticks with one cause together, in order of their end."""
    running: dict[tuple[str, str, str], Stretch] = {}
    started: dict[int, float] = {}
    for topic, message in session.messages():
        tick = int(message["tick"])
        if topic == TIMING:
            started = {tick: float(message["start_s"])}
            for stretch in running.values():  # the time comes after the decision of the same tick
                if stretch.first == tick:
                    stretch.start_s = started[tick]
        elif topic == DECISION:
            seen = {_key(message, finding): finding for finding in message["findings"]}
            for key in [k for k in running if k not in seen]:
                yield running.pop(key)
            for key, finding in seen.items():
                _extend(running, key, finding, tick)
    yield from running.values()


def _key(message: dict[str, Any], finding: dict[str, Any]) -> tuple[str, str, str]:
    return str(message["verdict"]), str(finding["reason"]), str(finding["where"])


def _extend(
    running: dict[tuple[str, str, str], Stretch], key: tuple[str, str, str], finding: dict[str, Any], tick: int
) -> None:
    asked, limit = finding["asked"], finding["limit"]
    stretch = running.get(key)
    if stretch is None:
        running[key] = Stretch(tick, tick, 0.0, Verdict(key[0]), Reason(key[1]), key[2], asked, limit)
        return
    stretch.last = tick
    if (
        asked is not None
        and stretch.asked is not None
        and _excess(asked, limit) > _excess(stretch.asked, stretch.limit)
    ):
        stretch.asked, stretch.limit = asked, limit


def _excess(asked: float, limit: float | None) -> float:
    return abs(asked - (limit or 0.0))

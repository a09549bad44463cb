"""What a recorded session's supervisor did, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

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
Key = tuple[str, str, str]  # verdict, reason, where
TOOL_PARTS = ("translation", "rotation")  # judged as norms of the action's parts, each number in [-1, 1]
LIMITS = {  # what the "limit" of a finding is, where it is none to stay below
    Reason.ACCELERATION: "could reach",  # the speed that is reached in a tick
    Reason.JERK: "could reach",
    Reason.WORKSPACE: "wall at",  # a joint command is changed in front of it, where braking has to begin
}


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
        asked: The value furthest beyond the limit, or nearest to it; None where there is no number.
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
        word = LIMITS.get(self.reason, "limit")
        numbers = f"{most}{self.asked:.4g} {unit}".rstrip() + f", {word} {self.limit:.4g}"
        return f"{self.where} asked {numbers} ({self.reason.value})"


def explain(session: Session) -> Iterator[Stretch]:
    """Every change of a command in a session, consecutive ticks with one cause together, in order of their end."""
    running: dict[Key, Stretch] = {}
    floors = _low_walls(session)
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
                _extend(running, key, finding, tick, floors)
    yield from running.values()


def _key(message: dict[str, Any], finding: dict[str, Any]) -> Key:
    return str(message["verdict"]), str(finding["reason"]), str(finding["where"])


def _extend(
    running: dict[Key, Stretch], key: Key, finding: dict[str, Any], tick: int, floors: Mapping[str, float]
) -> None:
    asked, limit = finding["asked"], finding["limit"]
    stretch = running.get(key)
    if stretch is None:
        running[key] = Stretch(tick, tick, 0.0, Verdict(key[0]), Reason(key[1]), key[2], asked, limit)
        return
    stretch.last = tick
    if asked is None or stretch.asked is None:
        return
    walls = floors if stretch.reason is Reason.WORKSPACE else {}
    if _excess(asked, limit, walls.get(key[2])) > _excess(stretch.asked, stretch.limit, walls.get(key[2])):
        stretch.asked, stretch.limit = asked, limit


def _excess(asked: float, limit: float | None, low_wall: float | None) -> float:
    """How far beyond its limit a value is; below 0 for a tool that is still in front of a wall."""
    if low_wall is None or limit is None:
        return abs(asked - (limit or 0.0))
    return limit - asked if limit == low_wall else asked - limit


def _low_walls(session: Session) -> dict[str, float]:
    """Low corner of the workspace box, m, by axis; empty where the session does not tell one."""
    try:
        arm = yaml.safe_load(session.info.get("arm") or "{}")
        return dict(zip("xyz", arm["tool"]["workspace_low_m"], strict=True))
    except (yaml.YAMLError, KeyError, TypeError, ValueError):  # no such box, or an arm's file of another program
        return {}

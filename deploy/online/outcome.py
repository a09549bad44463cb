"""How a step on a physical arm is judged, where no simulator tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from deploy.operator.station import Station
from robot_rl.spec import Array, Spec
from sim.reach import REACHED, reach_distance

TOOL, GOAL = "tool_pos", "goal_pos"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Of one control step.

    Args:
        reward: Of the step.
        over: Whether the task ended with it.
        success: Whether the task is achieved; None while nobody knows.
    """

    reward: float
    over: bool = False
    success: bool | None = None


class Outcome(Protocol):
    """A judge of steps."""

    by_hand: bool  # a person judges, and prepares the scene between episodes

    def judge(self, obs: Array) -> Judgement:
        """Of the step that led to `obs`, (S,)."""
        ...


class Reach:
    """The reach task: minus the distance from tool to goal, m; achieved within 3 cm.

    Args:
        spec: With the entries `tool_pos` and `goal_pos`.
    """

    by_hand = False

    def __init__(self, spec: Spec) -> None:
        self._tool, self._goal = spec.slice_of(TOOL), spec.slice_of(GOAL)

    def judge(self, obs: Array) -> Judgement:
        """By the observation alone."""
        distance = reach_distance(obs[self._tool], obs[self._goal])
        return Judgement(reward=-distance, success=distance <= REACHED)


class Labels:
    """The operator's word: success brings 1, failure 0, and either ends the episode; 0 until then.

    Args:
        station: Where the operator speaks.
    """

    by_hand = True

    def __init__(self, station: Station) -> None:
        self._station = station

    def judge(self, obs: Array) -> Judgement:
        """Take the operator's label, if there is one."""
        del obs
        label = self._station.take_label()
        return Judgement(reward=float(label is True), over=label is not None, success=label)


def outcome_for(spec: Spec, station: Station) -> Outcome:
    """The reach task where the arm has a goal, else the operator's labels."""
    names = {entry.name for entry in spec.observation}
    return Reach(spec) if {TOOL, GOAL} <= names else Labels(station)

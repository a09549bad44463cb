"""What the supervisor decided in one tick, and why."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Reason(Enum):
    """Why a command was changed."""

    __hash__ = object.__hash__  # members are single objects; Enum's own hash is a Python function, slow in a tick

    POSITION = "joint position limit"
    VELOCITY = "joint velocity limit"
    ACCELERATION = "joint acceleration limit"
    JERK = "joint jerk limit"
    GRIPPER = "gripper range or speed"
    ACTION_BOUNDS = "action outside [-1, 1]"
    WORKSPACE = "workspace box"
    TOOL_SPEED = "tool speed limit"
    FIRST_COMMANDS = "ramp after arming"
    BAD_ACTION = "policy output not finite"
    BAD_OBSERVATION = "observation not finite"
    STALE = "observation too old"
    MEASURED_POSITION = "measured joint outside its limits"
    MEASURED_VELOCITY = "measured joint above its speed limit"
    MEASURED_TOOL = "measured tool outside the workspace box"
    OVERRUN = "deadline missed"
    POLICY_LATE = "policy took too long"
    OPERATOR_SILENT = "no sign of the operator"
    ESTOP = "emergency stop"
    OPERATOR = "stopped by the operator"
    LATCHED = "stop is latched"
    ENDING = "the session's time is up"


class Verdict(Enum):
    """What became of the command that was asked."""

    __hash__ = object.__hash__  # see `Reason`

    PASSED = "passed"
    LIMITED = "limited"
    HELD = "held"
    STOPPED = "stopped"


class Finding(NamedTuple):  # not a frozen dataclass: those take twice as long to make
    """One cause, with numbers.

    Args:
        reason: Which rule.
        where: Joint, axis or signal concerned.
        asked: The offending value; NaN where there is no number to give.
        limit: What it may be; NaN likewise.
    """

    reason: Reason
    where: str
    asked: float = float("nan")
    limit: float = float("nan")

    def __str__(self) -> str:
        if self.asked != self.asked:  # NaN: no number to give
            return f"{self.reason.value} ({self.where})"
        return f"{self.reason.value} ({self.where}: {self.asked:.4g}, limit {self.limit:.4g})"


class Decision(NamedTuple):
    """The command to send, and why it is not the one asked.

    Args:
        command: Safe command, (A,), float64; a buffer that the next tick overwrites.
        verdict: What became of the asked command.
        findings: Every cause; empty exactly where the command passed unchanged.
    """

    command: NDArray[np.float64]
    verdict: Verdict
    findings: tuple[Finding, ...]

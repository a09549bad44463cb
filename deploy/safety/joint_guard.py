"""Joint targets that respect position, speed and acceleration limits, whatever is asked.

Each joint is steered on its own; with seven of them plain floats are faster than arrays.

With p the last command, v its speed, d the distance to the limit in the direction of motion and a the
acceleration limit, a speed u is safe for the next period dt if the joint can still brake in front of the
limit: u dt + u^2 / 2a <= d. `braking_speed` is the largest such u. From a safe state, braking by a dt
leads to a safe state again, so there always is a command that breaks no limit.

A target that runs ahead is caught up with by the same rule, seen from the moving target: with e the
distance left at the last tick and w the target's own speed, u = w + braking_speed(e). Where nothing is
left (e = 0) this is the asked motion itself, unchanged; a jump is followed without overshoot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from deploy.safety.decision import Finding, Reason
from deploy.safety.limits import JointLimits, Vector

SAME = 1e-9  # rad/s below which a changed speed is rounding


@dataclass(slots=True)
class _Joint:
    name: str
    low: float  # soft limits, rad
    high: float
    top: float  # rad/s
    acceleration: float  # rad/s^2
    position: float = 0.0  # last command, rad
    velocity: float = 0.0  # its speed, rad/s
    goal: float = 0.0  # last target within the soft limits, rad


class JointGuard:
    """Follows asked joint targets as far as the limits allow.

    Args:
        limits: Joint limits.
        dt: Control period, s.
    """

    def __init__(self, limits: JointLimits, dt: float) -> None:
        self._dt = dt
        margin, top = limits.soft_margin, limits.velocity * limits.velocity_share
        numbers = np.stack([limits.low + margin, limits.high - margin, top, limits.acceleration], axis=1)
        rows = zip(limits.names, numbers.tolist(), strict=True)
        self._joints = [_Joint(name, *row) for name, row in rows]
        self.position = np.zeros(len(self._joints))  # last command, (J,), rad

    def start(self, measured: Vector) -> None:
        """Forget the past: the last command is where the joints are, at rest.

        Args:
            measured: Joint positions within the hard limits, (J,), rad. A joint inside the soft margin can
                only be moved out of it.
        """
        self.position[:] = measured
        for joint, position in zip(self._joints, measured.tolist(), strict=True):
            joint.position = joint.goal = position
            joint.velocity = 0.0

    def advance(self, target: Vector, speed_share: float) -> tuple[Finding, ...]:
        """Move the command towards `target` for one period.

        Args:
            target: Wanted joint positions, (J,), rad, finite.
            speed_share: Share of the command speed limit in force, in (0, 1].

        Returns:
            Each limit that was in the way, per joint.
        """
        found: list[Finding] = []
        for i, asked in enumerate(target.tolist()):
            joint = self._joints[i]
            goal = min(max(asked, joint.low), joint.high)
            if goal != asked:
                found.append(Finding(Reason.POSITION, joint.name, asked, goal))
            wanted = (goal - joint.position) / self._dt
            speed = self._follow(joint, goal, speed_share)
            joint.goal = goal
            if abs(speed - wanted) <= SAME:
                joint.position, joint.velocity = goal, speed  # free of rounding
            else:
                found.append(_cause(joint, wanted, speed, speed_share))
                self._move(joint, speed)
            self.position[i] = joint.position
        return tuple(found)

    def brake(self) -> None:
        """Bring the command to rest, as fast as the acceleration limits allow."""
        for i, joint in enumerate(self._joints):
            self._move(joint, self._reachable(joint, 0.0))
            joint.goal = self.position[i] = joint.position

    @property
    def at_rest(self) -> bool:
        """Whether the last command repeated the one before."""
        return not any(joint.velocity for joint in self._joints)

    def _follow(self, joint: _Joint, goal: float, speed_share: float) -> float:
        """Nearest safe speed to what would bring `joint` to `goal`, rad/s."""
        left, own = joint.goal - joint.position, (goal - joint.goal) / self._dt
        speed = own + math.copysign(self._braking_speed(joint, abs(left)), left)
        top = joint.top * speed_share
        up = min(top, self._braking_speed(joint, joint.high - joint.position))
        down = min(top, self._braking_speed(joint, joint.position - joint.low))
        return self._reachable(joint, min(max(speed, -down), up))

    def _reachable(self, joint: _Joint, speed: float) -> float:
        """Nearest speed that the acceleration limit lets `joint` have now, rad/s.

        Comes last, so that a tightened speed limit is reached by braking and not by a jump.
        """
        change = joint.acceleration * self._dt
        return min(max(speed, joint.velocity - change), joint.velocity + change)

    def _braking_speed(self, joint: _Joint, room: float) -> float:
        """Largest speed that still stops within `room`, rad; 0 where there is none."""
        dt, a = self._dt, joint.acceleration
        return a * (math.sqrt(dt * dt + 2.0 * room / a) - dt) if room > 0.0 else 0.0

    def _move(self, joint: _Joint, speed: float) -> None:
        joint.velocity = speed
        joint.position += speed * self._dt


def _cause(joint: _Joint, wanted: float, speed: float, speed_share: float) -> Finding:
    if abs(wanted) > joint.top:
        return Finding(Reason.VELOCITY, joint.name, wanted, joint.top)
    if abs(wanted) > joint.top * speed_share:
        return Finding(Reason.FIRST_COMMANDS, joint.name, wanted, joint.top * speed_share)
    return Finding(Reason.ACCELERATION, joint.name, wanted, speed)

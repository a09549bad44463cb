"""Joint targets that respect position, speed and acceleration limits, whatever is asked.

Each joint is steered on its own; with seven of them plain floats are faster than arrays.

With p the last command, v its speed, d the distance to the limit in the direction of motion and a the
acceleration limit, a speed u is safe for the next period dt if the joint can still brake in front of the
limit: u dt + u^2 / 2a <= d. `_braking_speed` is the largest such u. From a safe state, braking by a dt
leads to a safe state again, so there always is a command that breaks no limit.

A target that runs ahead is caught up with by the same rule, seen from the moving target: with e the
distance left at the last tick and w the target's own speed, u = w + braking_speed(e). Where nothing is
left (e = 0) this is the asked motion itself, unchanged; a jump is followed without overshoot.

Between braking as hard as allowed and the steered speeds every mixture keeps the joint limits. Where the
steered speeds would lead the tool out of its box (`box_guard`), the best mixture that does not is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count
from operator import sub

import numpy as np

from deploy.safety.box_guard import BoxGuard
from deploy.safety.decision import Finding, Reason
from deploy.safety.limits import JointLimits, Vector

SAME = 1e-9  # rad/s below which a changed speed is rounding
MIXTURES = (0.5, 0.25, 0.0)  # shares of the steered speeds that are tried in front of a wall


class JointGuard:
    """Follows asked joint targets as far as the limits allow.

    Args:
        limits: Joint limits.
        dt: Control period, s.
        box: Judges where joints lead the tool; None for no such check.
    """

    def __init__(self, limits: JointLimits, dt: float, box: BoxGuard | None = None) -> None:
        self._dt, self._box, self._names = dt, box, limits.names
        margin, top = limits.soft_margin, limits.velocity * limits.velocity_share
        jerk = np.full(len(top), np.inf) if limits.jerk is None else limits.jerk
        # low and high (rad), top speed (rad/s), acceleration (rad/s^2), changes of speed and of that change in a tick
        columns = (limits.low + margin, limits.high - margin, top, limits.acceleration)
        rows = np.stack([*columns, limits.acceleration * dt, jerk * dt * dt], axis=1).tolist()
        self._rows = [tuple(row) for row in rows]
        size = len(rows)
        self.position = [0.0] * size  # last command, (J,), rad
        self._speed = [0.0] * size  # its speed, rad/s
        self._change = [0.0] * size  # its last change of speed, rad/s
        self._goal = [0.0] * size  # last target within the soft limits, rad
        self._next = [0.0] * size
        self._next_speed = [0.0] * size

    def start(self, measured: Vector) -> None:
        """Forget the past: the last command is where the joints are, at rest.

        Args:
            measured: Joint positions within the hard limits, (J,), rad. A joint inside the soft margin can
                only be moved out of it.
        """
        self.position[:] = self._goal[:] = measured.tolist()
        self._speed[:] = self._change[:] = [0.0] * len(self._rows)
        if self._box is not None:
            self._box.start(self.position)

    def advance(self, target: Sequence[float], speed_share: float) -> list[Finding]:
        """Move the command towards `target` for one period.

        Args:
            target: Wanted joint positions, (J,), rad, finite.
            speed_share: Share of the command speed limit in force, in (0, 1].

        Returns:
            Each limit that was in the way, per joint.
        """
        found: list[Finding] = []
        dt, moved, speeds = self._dt, self._next, self._next_speed
        for i, asked, at, speed, before, aimed, (low, high, top, a, change, jump) in zip(
            count(), target, self.position, self._speed, self._change, self._goal, self._rows, strict=False
        ):
            goal = low if asked < low else high if asked > high else asked
            if goal != asked:
                found.append(Finding(Reason.POSITION, self._names[i], asked, goal))
            wanted = (goal - at) / dt
            room, fast = (high - at, wanted) if wanted > 0.0 else (at - low, -wanted)
            if not (
                aimed == at  # nothing left to catch up with
                and fast <= top * speed_share
                and -change <= wanted - speed <= change
                and -jump <= wanted - speed - before <= jump
                and fast * (dt + fast / (2.0 * a)) <= room
            ):
                steered, reason = self._steer(i, goal, top * speed_share)
                if abs(steered - wanted) > SAME:
                    found.append(self._cause(i, reason, wanted, steered, speed_share))
                    moved[i], speeds[i], self._goal[i] = at + steered * dt, steered, goal
                    continue
            moved[i] = self._goal[i] = goal  # free of rounding
            speeds[i] = wanted
        if self._box is not None:
            self._keep_inside(self._box, found)
        self._commit()
        return found

    def brake(self) -> None:
        """Bring the command to rest, as fast as the acceleration limits allow."""
        self._mix(0.0)
        self._commit()
        self._goal[:] = self.position
        if self._box is not None:
            self._box.commit(self.position)

    @property
    def at_rest(self) -> bool:
        """Whether the last command repeated the one before."""
        return not any(self._speed)

    def _steer(self, i: int, goal: float, top: float) -> tuple[float, Reason | None]:
        """Nearest safe speed to what would bring joint `i` to `goal`, rad/s, and whether jerk decided it."""
        low, high, _, a, change, jump = self._rows[i]
        at, speed, dt = self.position[i], self._speed[i], self._dt
        up, down = self._braking_speed(a, high - at), -self._braking_speed(a, at - low)
        up, down = top if up > top else up, -top if down < -top else down
        left, wish = self._goal[i] - at, (goal - self._goal[i]) / dt
        if left:
            wish += math.copysign(self._braking_speed(a, abs(left)), left)
        wish = _clamped(wish, down, up)
        straight = speed + self._change[i]
        smooth = _clamped(wish, straight - jump, straight + jump)
        # Acceleration comes last, so that a tightened speed limit is reached by braking and not by a jump.
        reached = _clamped(_clamped(smooth, down, up), speed - change, speed + change)
        return reached, Reason.JERK if smooth != wish and reached == smooth else None

    def _braking_speed(self, a: float, room: float) -> float:
        """Largest speed that still stops within `room`, rad; 0 where there is none."""
        dt = self._dt
        return a * (math.sqrt(dt * dt + 2.0 * room / a) - dt) if room > 0.0 else 0.0

    def _keep_inside(self, box: BoxGuard, found: list[Finding]) -> None:
        fault = box.fault(self._next, self._next_speed)
        if fault is not None:
            found.append(fault)
            steered = list(self._next_speed)
            for share in MIXTURES:
                self._mix(share, steered)
                if share == 0.0 or box.fault(self._next, self._next_speed) is None:
                    break
            box.commit(self._next)
        else:
            box.commit()

    def _mix(self, share: float, steered: Sequence[float] = ()) -> None:
        """Next command: `share` of the steered speeds, the rest of braking."""
        for i, row in enumerate(self._rows):
            speed, change = self._speed[i], row[4]
            slowed = 0.0 if abs(speed) <= change else speed - math.copysign(change, speed)
            mixed = slowed + share * (steered[i] - slowed) if share else slowed
            self._next_speed[i] = mixed
            self._next[i] = self.position[i] + mixed * self._dt

    def _commit(self) -> None:
        self._change = list(map(sub, self._next_speed, self._speed))
        self.position, self._next = self._next, self.position
        self._speed, self._next_speed = self._next_speed, self._speed

    def _cause(self, i: int, reason: Reason | None, wanted: float, speed: float, share: float) -> Finding:
        top, name = self._rows[i][2], self._names[i]
        if abs(wanted) > top:
            return Finding(Reason.VELOCITY, name, wanted, top)
        if abs(wanted) > top * share:
            return Finding(Reason.FIRST_COMMANDS, name, wanted, top * share)
        return Finding(reason or Reason.ACCELERATION, name, wanted, speed)


def _clamped(value: float, low: float, high: float) -> float:
    """min(max(value, low), high), which takes three times as long."""
    return low if value < low else high if value > high else value

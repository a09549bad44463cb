"""From a device's axes to an action, by what the spec says an action is.

osc_pose         axes are the tool's displacement and turn in [-1, 1]
joint_position   axes move joint targets, from the first one chosen on, at most 0.5 rad/s
anything else    axes are the action's entries, from the first one chosen on, between their bounds
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from deploy.teleop.device import AXES
from robot_rl.errors import ConfigError
from robot_rl.spec import Array, Spec

TWIST = ("dx", "dy", "dz", "droll", "dpitch", "dyaw")
GRIPPER, WIDTH = "gripper", "gripper_width_target"  # entries: a robosuite gripper closes at 1; a width, m
TARGETS, JOINTS = "joint_pos_target", "joint_pos"
JOG_RAD_S = 0.5
LEAD_RAD = 0.15  # a target is never further ahead of the measured joint


class Drive(Protocol):
    """Turns axes into actions."""

    def begin(self, obs: Array, asked: Array) -> None:
        """Somebody takes over at `obs`, (S,), while `asked`, (A,), would have come next."""
        ...

    def closed(self, action: Array) -> bool:
        """Whether `action`, (A,), closes the gripper rather than opens it."""
        ...

    def action(self, obs: Array, axes: Array, *, first: int, closed: bool | None) -> Array:
        """Action, (A,).

        Args:
            obs: What the robot sees, (S,).
            axes: (6,) in [-1, 1].
            first: Entry of the action that the first axis moves, from 0.
            closed: Whether the gripper shall be closed; None leaves it as it was.
        """
        ...


class Base:
    """What drives share: bounds, the gripper, and where each entry of the action is."""

    def __init__(self, spec: Spec) -> None:
        self.low, self.high = spec.action_low.astype(np.float64), spec.action_high.astype(np.float64)
        names = [e.name for e in spec.action for _ in range(e.size)]
        self._grip, self._closes_high = -1, False
        for name, closes_high in ((GRIPPER, True), (WIDTH, False)):
            if name in names:
                self._grip, self._closes_high = names.index(name), closes_high
        self.moved = [i for i in range(len(names)) if i != self._grip]
        self.neutral = np.clip(np.zeros(len(names)), self.low, self.high)
        self._held = self.neutral

    def begin(self, obs: Array, asked: Array) -> None:
        """Keep the gripper as the policy has it."""
        del obs
        self._held = np.asarray(asked, np.float64)

    def closed(self, action: Array) -> bool:
        """By the bound that the gripper's entry is nearer to; False where there is none."""
        i = self._grip
        return i >= 0 and bool(2.0 * action[i] > self.low[i] + self.high[i]) is self._closes_high

    def gripped(self, action: Array, closed: bool | None) -> Array:
        """`action`, (A,), with the gripper's entry, within the bounds."""
        i = self._grip
        if i >= 0:
            side = self.high if closed is self._closes_high else self.low
            action[i] = self._held[i] if closed is None else side[i]
        return np.clip(action, self.low, self.high).astype(np.float32)


class TwistDrive(Base):
    """Displacements of the tool."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        labels = [e.name for e in spec.action for _ in range(e.size)]
        self._where = [(axis, labels.index(name)) for axis, name in enumerate(TWIST) if name in labels]

    def action(self, obs: Array, axes: Array, *, first: int, closed: bool | None) -> Array:
        """Axis by axis; the choice of a first one means nothing here."""
        del obs, first
        action = self.neutral.copy()
        for axis, i in self._where:
            action[i] = axes[axis] * self.high[i]
        return self.gripped(action.astype(np.float32), closed)


class JointDrive(Base):
    """Joint targets that move while an axis is on, and stand otherwise."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._seen = spec.slice_of(JOINTS)
        self._step = JOG_RAD_S / spec.rate_hz
        self._target = np.zeros(len(self.moved))

    def begin(self, obs: Array, asked: Array) -> None:
        """From where the joints are."""
        super().begin(obs, asked)
        self._target = np.asarray(obs[self._seen], np.float64)

    def action(self, obs: Array, axes: Array, *, first: int, closed: bool | None) -> Array:
        """Targets, rad."""
        target = self._target + self._step * spread(axes, first, len(self.moved))
        measured = np.asarray(obs[self._seen], np.float64)
        target = np.clip(target, measured - LEAD_RAD, measured + LEAD_RAD)
        self._target = np.clip(target, self.low[self.moved], self.high[self.moved])
        action = self.neutral.copy()
        action[self.moved] = self._target
        return self.gripped(action.astype(np.float32), closed)


class DirectDrive(Base):
    """Entries of the action themselves: at rest 0, or the bound nearest to it."""

    def action(self, obs: Array, axes: Array, *, first: int, closed: bool | None) -> Array:
        """Each axis between rest and bound."""
        del obs
        share = spread(axes, first, len(self.moved))
        rest, low, high = (side[self.moved] for side in (self.neutral, self.low, self.high))
        action = self.neutral.copy()
        action[self.moved] = rest + np.where(share > 0, share * (high - rest), -share * (low - rest))
        return self.gripped(action.astype(np.float32), closed)


def spread(axes: Array, first: int, count: int) -> Array:
    """Axes laid over `count` entries from `first` on, zeros elsewhere, (count,)."""
    found = np.zeros(count, np.float32)
    part = axes[: max(0, min(AXES, count - first))]
    found[first : first + len(part)] = part
    return found


def drive_for(spec: Spec) -> Drive:
    """The drive that an action of this spec asks for.

    Raises:
        ConfigError: If no device can drive it.
    """
    labels = [e.name for e in spec.action]
    if spec.control == "discrete":
        raise ConfigError("Discrete actions cannot be driven by axes. Record with --teleop scripted, or import logs.")
    if any(name in labels for name in TWIST):
        return TwistDrive(spec)
    if TARGETS in labels:
        _require_joints(spec)
        return JointDrive(spec)
    if not np.isfinite([spec.action_low, spec.action_high]).all():
        raise ConfigError("An action without bounds cannot be driven by axes: give the spec's action entries bounds.")
    return DirectDrive(spec)


def _require_joints(spec: Spec) -> None:
    seen = next((e.names for e in spec.observation if e.name == JOINTS), ())
    asked = next(e.names for e in spec.action if e.name == TARGETS)
    if seen != asked or not spec.rate_hz:
        raise ConfigError(
            f"Joint targets ({', '.join(asked)}) need as many measured joints '{JOINTS}' ({', '.join(seen) or 'none'}) "
            f"and a rate ({spec.rate_hz:g} Hz) to be driven by hand."
        )

"""Reading a flat observation by name, and the geometry the experts need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from robot_rl.spec import Array, Spec

Vector = NDArray[np.float64]

FULL_STEP = 0.05  # metres of goal displacement that an action of 1 asks for
FULL_TURN = 0.5  # radians, likewise


class Named:
    """One observation, read through its spec.

    Args:
        spec: Names of the observation's entries.
        obs: Flat observation, (S,).
        called: Sensors that this spec knows by another name.
    """

    def __init__(self, spec: Spec, obs: Array, called: Mapping[str, str] = MappingProxyType({})) -> None:
        self._spec, self._obs, self._called = spec, obs, called

    def flat(self) -> Vector:
        """All of it, (S,): a copy."""
        return self._obs.astype(np.float64)

    def entry(self, name: str) -> Vector:
        """A whole entry, such as "robot0_eef_pos"."""
        return self._obs[self._spec.slice_of(name)].astype(np.float64)

    def sensor(self, name: str) -> Vector:
        """One of the sensors inside `object`, such as "cube_pos"."""
        name = self._called.get(name, name)
        entry = next(e for e in self._spec.observation if e.name == "object")
        where = [i for i, label in enumerate(entry.names) if label == name or label[:-2] == name]
        return self.entry("object")[where]


def steer(seen: Named, position: Vector, turn: Vector, gripper: float, gain: float = 1.0) -> NDArray[np.float64]:
    """Action that moves the grip point towards a pose.

    Args:
        seen: The observation.
        position: Wanted grip point in the world, (3,), m.
        turn: Wanted rotation from here as axis times angle in the world, (3,), rad.
        gripper: -1 opens, 1 closes.
        gain: Share of the remaining way to ask for in one step; above 1 approaches faster.

    Returns:
        Action in [-1, 1], (7,); the direction of motion is kept where it saturates.
    """
    shift = gain * (position - seen.entry("robot0_eef_pos")) / FULL_STEP
    shift /= max(1.0, float(np.abs(shift).max()))
    return np.concatenate([shift, np.clip(turn / FULL_TURN, -1.0, 1.0), [gripper]])


def axes(quaternion: Vector) -> NDArray[np.float64]:
    """Rotation matrix of a unit quaternion (x, y, z, w), (3, 3); columns are the turned axes."""
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def turn_between(now: NDArray[np.float64], wanted: NDArray[np.float64]) -> Vector:
    """Rotation that takes frame `now` to `wanted`, as axis times angle, (3,), rad.

    Args:
        now: Rotation matrix, (3, 3).
        wanted: Rotation matrix, (3, 3).
    """
    delta = wanted @ now.T
    cosine = np.clip((np.trace(delta) - 1) / 2, -1.0, 1.0)
    axis = np.array([delta[2, 1] - delta[1, 2], delta[0, 2] - delta[2, 0], delta[1, 0] - delta[0, 1]])
    sine = float(np.linalg.norm(axis)) / 2
    return axis / (2 * sine) * np.arctan2(sine, cosine) if sine > 1e-9 else np.zeros(3)


def pointing_down(yaw: float) -> NDArray[np.float64]:
    """Frame of a hand that points straight down and is turned by `yaw` about the vertical, (3, 3)."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])


def yaw_of(frame: NDArray[np.float64]) -> float:
    """Angle of a frame's x axis about the vertical, rad."""
    return float(np.arctan2(frame[1, 0], frame[0, 0]))


def nearest_angle(angle: float, to: float, period: float) -> float:
    """The angle equal to `angle` modulo `period` that is nearest to `to`, rad."""
    return to + (angle - to + period / 2) % period - period / 2


def distance(a: Vector, b: Vector, over: Sequence[int] = (0, 1, 2)) -> float:
    """Euclidean distance over some of the axes, m."""
    return float(np.linalg.norm((a - b)[list(over)]))

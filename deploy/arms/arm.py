"""What the control loop needs of an arm, simulated or physical."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robot_rl.spec import Array, Spec


@dataclass(frozen=True, slots=True)
class ArmState:
    """One measurement.

    Args:
        obs: What the policy sees, (S,), float32, as named by the arm's spec.
        q: Joint positions, (J,), rad.
        dq: Joint velocities, (J,), rad/s.
        tool: Tool position, (3,), m, in the frame of the workspace box; None where the arm has no such
            measurement.
        stamp_s: When it was measured, on `time.monotonic`'s clock, s.
        gripper: Width of the gripper, m; NaN where the arm has none that takes widths.
    """

    obs: Array
    q: NDArray[np.float64]
    dq: NDArray[np.float64]
    tool: NDArray[np.float64] | None
    stamp_s: float
    gripper: float = math.nan


class Arm(Protocol):
    """A driver. `command` takes only what the safety supervisor let through."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def spec(self) -> Spec:
        """What it observes and takes; known once connected."""
        ...

    def connect(self) -> None:
        """Take control. Moves nothing."""
        ...

    def read(self) -> ArmState:
        """The newest measurement; never blocks for longer than a fraction of the control period."""
        ...

    def command(self, action: NDArray[np.float64]) -> None:
        """Execute `action`, (A,), for one control period; a simulated arm does so in `advance`."""
        ...

    def hold(self) -> None:
        """Stand still from now on; callable at any time, in any state."""
        ...

    def close(self) -> None:
        """Give control back; a second call changes nothing."""
        ...


@runtime_checkable
class Waking(Protocol):
    """An arm whose controller stops listening while nothing is commanded, as between two episodes."""

    def wake(self) -> None:
        """Take commands again after a `hold` that was meant to last. Moves nothing; may take a second.

        Raises:
            ArmError: If the arm is stopped or does not answer.
        """
        ...


@runtime_checkable
class Episodic(Protocol):
    """An arm whose physics are ours to step and whose task starts over: a simulator."""

    @property
    def over(self) -> bool:
        """Whether the episode has ended; `command` then waits for `restart`."""
        ...

    @property
    def terminated(self) -> bool:
        """Whether the task itself ended the episode, and not a time limit."""
        ...

    @property
    def seed(self) -> int:
        """What the running episode was begun with."""
        ...

    @property
    def success(self) -> bool | None:
        """Whether the task was achieved in the episode; None where nobody knows."""
        ...

    @property
    def reward(self) -> float:
        """Of the last `advance`."""
        ...

    @property
    def episode_return(self) -> float:
        """Sum of the episode's rewards."""
        ...

    def advance(self) -> None:
        """Simulate one control period under the last command. No part of the tick on a physical arm."""
        ...

    def restart(self, seed: int | None = None) -> None:
        """Begin the next episode, or the one of `seed`. May take long: the loop calls it between ticks."""
        ...

"""One recorded attempt at a task."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot_rl.data.pictures.cameras import CameraRef
from robot_rl.errors import DataError
from robot_rl.spec import Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Episode:
    """T control steps; arrays are float32 and read-only.

    Args:
        observations: States o_0 ... o_T, (T+1, S), in the spec's units.
        actions: Executed actions a_0 ... a_{T-1}, (T, A).
        rewards: r_0 ... r_{T-1}, (T,).
        terminated: The task itself ended here: the value of o_T is zero.
        truncated: The recording ended here, but the task would have gone on: bootstrap from o_T.
        success: Whether the task was achieved; None where nobody knows.
        final_observed: False where the log lacks o_T. The last row then repeats o_{T-1} so that no
            action is lost, and learners leave that one transition out.
        timestamps: Time of each observation, (T+1,), s; None where the log has no clock.
        source: Where it came from, such as `demo.hdf5:demo_3`.
        cameras: Where its pictures are.
    """

    observations: Array
    actions: Array
    rewards: Array
    terminated: bool = False
    truncated: bool = True
    success: bool | None = None
    final_observed: bool = True
    timestamps: NDArray[np.float64] | None = None
    source: str = ""
    cameras: tuple[CameraRef, ...] = ()

    def __post_init__(self) -> None:
        where = self.source or "episode"
        for name, ndim in (("observations", 2), ("actions", 2), ("rewards", 1)):
            object.__setattr__(self, name, _freeze(getattr(self, name), name, ndim, where))
        steps = len(self.actions)
        if steps == 0:
            raise DataError(f"{where}: an episode without actions. Leave it out of the import.")
        if len(self.observations) != steps + 1 or len(self.rewards) != steps:
            raise DataError(
                f"{where}: {len(self.observations)} observations, {steps} actions and "
                f"{len(self.rewards)} rewards; T actions need T+1 observations and T rewards."
            )
        if self.terminated and self.truncated:
            raise DataError(f"{where}: marked both terminated and truncated; an end is one or the other.")
        if self.timestamps is not None:
            stamps = np.array(self.timestamps, dtype=np.float64)
            if stamps.shape != (steps + 1,):
                raise DataError(f"{where}: {stamps.shape} timestamps for {steps + 1} observations.")
            stamps.setflags(write=False)
            object.__setattr__(self, "timestamps", stamps)

    def __len__(self) -> int:
        """Number of control steps T."""
        return len(self.actions)

    @property
    def transitions(self) -> int:
        """Number of steps whose next observation is logged: T, or T - 1 where o_T is missing."""
        return len(self) - (not self.final_observed)

    @property
    def return_(self) -> float:
        """Undiscounted sum of rewards."""
        return float(self.rewards.sum(dtype=np.float64))

    @property
    def digest(self) -> str:
        """SHA-256 over observations and actions: equal for episodes that show the same, however they are rewarded."""
        return hashlib.sha256(self.observations.tobytes() + self.actions.tobytes()).hexdigest()


def feed(sink: Callable[[bytes], object], episode: Episode) -> None:
    """Hand the bytes of observations, actions and rewards, in this order, to a hash's `update`."""
    for array in (episode.observations, episode.actions, episode.rewards):
        sink(array.tobytes())


def _freeze(value: ArrayLike, name: str, ndim: int, where: str) -> NDArray[Any]:
    try:
        array = np.array(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {name} is not a numeric array ({error}).") from error
    if array.ndim != ndim:
        raise DataError(f"{where}: {name} has shape {array.shape}; expected {ndim} dimensions.")
    array.setflags(write=False)
    return array

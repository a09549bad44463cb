"""Normalisation statistics, computed once at pretraining and frozen.

They travel with the policy into the online phase and into the ONNX graph. A missing statistic is an
error, a constant dimension is scaled by 1 and named, never divided by zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import Episode
from robot_rl.errors import DataError
from robot_rl.spec import Array

STD_FLOOR = 1e-6  # below this share of the values' size a dimension counts as constant
ROUNDING = 1e-5  # of a standard deviation: statistics of the same observations differ by less


@dataclass(frozen=True, eq=False)
class ObservationStats:
    """Per-dimension mean and scale of observations, (S,) each, float32."""

    mean: Array
    std: Array

    def __post_init__(self) -> None:
        if self.mean.shape != self.std.shape or self.mean.ndim != 1:
            raise DataError(f"Statistics disagree: mean is {self.mean.shape}, std {self.std.shape}.")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()):
            raise DataError("Statistics hold a NaN, an infinity or a zero scale; run `robot-rl data doctor`.")

    def normalise(self, obs: Array) -> Array:
        """(obs - mean) / std for a batch, (..., S)."""
        return (obs - self.mean) / self.std

    @property
    def digest(self) -> str:
        """SHA-256 over the float32 bytes of mean and std."""
        mean = np.ascontiguousarray(self.mean, np.float32)
        std = np.ascontiguousarray(self.std, np.float32)
        return hashlib.sha256(mean.tobytes() + std.tobytes()).hexdigest()

    def agrees(self, other: ObservationStats) -> bool:
        """Whether both are of the same observations, up to what another machine's rounding makes of them."""
        if self.mean.shape != other.mean.shape:
            return False
        room = ROUNDING * self.std + np.finfo(np.float32).eps * np.abs(self.mean)
        return bool(((abs(self.mean - other.mean) <= room) & (abs(self.std - other.std) <= room)).all())


def observation_stats(episodes: Iterable[Episode]) -> ObservationStats:
    """Statistics over every observation of `episodes`, accumulated in float64.

    Raises:
        DataError: If there is no episode or a value is not finite.
    """
    count, total, square = 0, _zero(), _zero()
    for episode in episodes:
        obs = episode.observations.astype(np.float64)
        if not np.isfinite(obs).all():
            raise DataError(f"{episode.source}: non-finite observations. Run `robot-rl data doctor`.")
        batch_mean = obs.mean(0)
        new = count + len(obs)
        shift = batch_mean - total  # `total` holds the running mean, `square` the sum of squared deviations
        square = square + obs.var(0) * len(obs) + shift**2 * (count * len(obs) / new)
        total = total + shift * (len(obs) / new)
        count = new
    if count == 0:
        raise DataError("No observations to take statistics from.")
    std = np.sqrt(square / count)
    std[std <= STD_FLOOR * np.maximum(1.0, np.abs(total))] = 1.0
    return ObservationStats(mean=total.astype(np.float32), std=std.astype(np.float32))


def _zero() -> NDArray[np.float64]:
    return np.zeros((), dtype=np.float64)

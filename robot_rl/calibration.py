"""Whether probabilities mean what they say: reliability, expected calibration error, temperature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.success_net import sigmoid

Floats = NDArray[np.float64]
BINS = 10
STEEPEST = 100.0  # 1 / temperature lies between this and its inverse


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Probabilities in bins of equal width.

    Args:
        said: Mean probability in each bin, (BINS,); NaN where it is empty.
        found: Share of successes in it, (BINS,); NaN where it is empty.
        count: Frames in it, (BINS,).
    """

    said: Floats
    found: Floats
    count: NDArray[np.int64]

    @staticmethod
    def of(probability: Floats, success: NDArray[np.bool_]) -> Reliability:
        """Of N frames, (N,) each."""
        where = np.minimum((probability * BINS).astype(int), BINS - 1)
        count = np.bincount(where, minlength=BINS)
        some = np.where(count > 0, count, np.nan)
        return Reliability(
            said=np.bincount(where, probability, BINS) / some,
            found=np.bincount(where, success.astype(float), BINS) / some,
            count=count,
        )

    @property
    def error(self) -> float:
        """Expected calibration error: |said - found|, weighted by the frames of each bin (Guo et al. 2017)."""
        return float(np.nansum(self.count * np.abs(self.said - self.found)) / max(1, self.count.sum()))


def fit_temperature(logits: Floats, success: NDArray[np.bool_]) -> float:
    """The T that makes sigmoid(z / T) most likely, on frames that the weights were not fitted to, (N,) each.

    The targets are Platt's (1999), (n+ + 1) / (n+ + 2) and 1 / (n- + 2), so that perfectly told frames do not ask for
    T = 0. The log-likelihood is concave in 1 / T: bisection on its slope finds the only maximum.
    """
    positive = int(success.sum())
    target = np.where(success, (positive + 1) / (positive + 2), 1 / (len(success) - positive + 2))
    low, high = -np.log(STEEPEST), np.log(STEEPEST)  # of 1 / T
    for _ in range(60):
        middle = (low + high) / 2
        slope = float(np.mean(logits * (sigmoid(np.exp(middle) * logits) - target)))
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))

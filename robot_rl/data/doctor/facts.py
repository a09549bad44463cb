"""What the doctor remembers of each episode, so that one pass over any amount of data is enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import Episode
from robot_rl.data.lag import Lag, LagMeter
from robot_rl.spec import Array, Spec

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

SAMPLED = 40_000  # rows kept to estimate quantiles
LAG_ROWS = 20_000  # steps that the lag is measured on
LAG_STEPS = 20  # largest lag looked for
REPEATS = (0, 1)  # steps by which an observation may repeat an action
_BOUND_SHARE = 1e-3  # of a bound's span: nearer than this is at the bound


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One episode in figures; rows over observation dimensions, (S,), and action dimensions, (A,)."""

    index: int
    source: str
    steps: int
    return_: float
    success: bool | None
    terminated: bool
    digest: str
    start: Floats
    mean: Floats
    std: Floats
    low: Floats
    high: Floats
    action_low: Floats
    action_high: Floats
    at_bound: Floats  # share of the steps
    step_usual: Floats  # 98 % of the changes from row to row are at most this
    step_most: Floats  # the largest change
    step_row: Ints  # and where it is


class Gathered:
    """Facts of all episodes, a thinned sample of their rows, the lag, and who repeats whom.

    Attributes:
        repeats: For each of `REPEATS`, whether action dimension a is what observation dimension s was in every row
            so far, that many steps later, (A, S).
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.facts: list[Facts] = []
        self._sample: list[Array] = []
        self._stride, self._rows, self._seen = 1, 0, 0
        self.repeats = tuple(np.ones((spec.action_dim, spec.obs_dim), bool) for _ in REPEATS)
        self._lag = LagMeter(LAG_STEPS)
        self._lag_rows = 0

    @property
    def steps(self) -> int:
        """Steps of the episodes added."""
        return sum(f.steps for f in self.facts)

    @property
    def sample(self) -> Array:
        """At most SAMPLED observations, evenly spread, (N, S)."""
        return np.concatenate(self._sample)

    @property
    def lag(self) -> Lag | None:
        """Steps from an action to the observation that shows it."""
        return self._lag.result()

    def add(self, episode: Episode, index: int) -> None:
        """Take in one episode of finite values."""
        self.facts.append(_facts(episode, self.spec, index))
        if self._lag_rows < LAG_ROWS:
            seen = episode.transitions + 1
            self._lag.add(episode.actions, episode.observations[:seen])
            self._lag_rows += len(episode)
        for later, pairs in zip(REPEATS, self.repeats, strict=True):
            rows = len(episode) - later
            for a in np.flatnonzero(pairs.any(1)):
                left = np.flatnonzero(pairs[a])
                same = episode.observations[later : later + rows, left] == episode.actions[:rows, a, None]
                pairs[a, left] = same.all(0)
        self._take(episode.observations)

    def _take(self, obs: Array) -> None:
        first = -self._seen % self._stride
        self._seen += len(obs)
        self._sample.append(np.array(obs[first :: self._stride]))
        self._rows += len(self._sample[-1])
        if self._rows > SAMPLED:
            self._sample = [np.concatenate(self._sample)[::2]]
            self._rows, self._stride = len(self._sample[0]), 2 * self._stride


def _facts(episode: Episode, spec: Spec, index: int) -> Facts:
    obs, actions = episode.observations, episode.actions
    span = spec.action_high - spec.action_low
    near = _BOUND_SHARE * np.where(np.isfinite(span), span, 0)
    steps = np.abs(np.diff(obs[: episode.transitions + 1], axis=0))
    steps = steps if len(steps) else np.zeros_like(obs[:1])
    at_bound = (actions <= spec.action_low + near) | (actions >= spec.action_high - near)
    return Facts(
        index=index,
        source=episode.source,
        steps=len(episode),
        return_=episode.return_,
        success=episode.success,
        terminated=episode.terminated,
        digest=episode.digest,
        start=obs[0].astype(np.float64),
        mean=obs.mean(0, dtype=np.float64),
        std=obs.std(0, dtype=np.float64),
        low=obs.min(0).astype(np.float64),
        high=obs.max(0).astype(np.float64),
        action_low=actions.min(0).astype(np.float64),
        action_high=actions.max(0).astype(np.float64),
        at_bound=at_bound.mean(0),
        step_usual=np.partition(steps, int(0.98 * (len(steps) - 1)), axis=0)[int(0.98 * (len(steps) - 1))],
        step_most=steps.max(0),
        step_row=steps.argmax(0),
    )

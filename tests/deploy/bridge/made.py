"""Made transitions whose numbers tell which one they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_rl.data.transition import Rows, transition_dtype
from robot_rl.spec import Entry, Spec, vector

S, A = 3, 2


def make_spec(obs_dim: int = S, action_dim: int = A, **kwargs: Any) -> Spec:
    names = tuple(map(str, range(action_dim)))
    action = Entry("action", names, low=(-1.0,) * action_dim, high=(1.0,) * action_dim)
    return Spec((vector("observation", obs_dim),), (action,), **{"rate_hz": 50.0, "control": "torque"} | kwargs)


def numbered(first: int, count: int, spec: Spec | None = None, tag: float = 0.0) -> Rows:
    """Transition i has reward i and everything else made from i and `tag`."""
    spec = spec or make_spec()
    rows = np.zeros(count, transition_dtype(spec.obs_dim, spec.action_dim))
    number = np.arange(first, first + count, dtype=np.float32)
    rows["reward"] = number
    rows["obs"] = number[:, None] + tag
    rows["next_obs"] = number[:, None] + 1 + tag
    rows["action"] = 0.25
    rows["policy_version"] = np.arange(first, first + count)
    rows["success"] = -1
    return rows

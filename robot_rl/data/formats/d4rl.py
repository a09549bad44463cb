"""D4RL's HDF5: flat arrays over all episodes, ends marked by `terminals` and `timeouts`.

https://github.com/Farama-Foundation/D4RL. An episode ends at either mark, and where `next_observations` says that the
next row is not what followed. Observations are never paired across an end. Without `next_observations` the last
observation of an episode is unknown: its action is kept, and learners leave that one transition out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.data.formats.hdf5 import numbers, opened
from robot_rl.data.formats.log import ImportedLog, ReadOptions
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import DataError, SpecMismatch
from robot_rl.spec import Spec, vector


def read_d4rl(path: Path, options: ReadOptions) -> ImportedLog:
    """Open a D4RL file.

    Raises:
        DataError: If an array is missing, malformed, or of another length than the actions.
        SpecMismatch: If its widths are not those of the environment named.
    """
    with opened(path) as file:
        actions = numbers(file, "actions", path, ndim=2)
        steps = len(actions)
        if steps == 0:
            raise DataError(f"{path}: 'actions' is empty; there is nothing to import.")
        terminals = numbers(file, "terminals", path, ndim=1, rows=steps) > 0
        timeouts = np.zeros(steps, bool)
        notes: list[str] = []
        if "timeouts" in file:
            timeouts = numbers(file, "timeouts", path, ndim=1, rows=steps) > 0
        else:
            notes.append("no 'timeouts': only terminals end an episode")
        obs = numbers(file, "observations", path, ndim=2, rows=steps)
        width = obs.shape[1]
        numbers(file, options.reward_key, path, ndim=1, rows=steps)
        followed = "next_observations" in file
        if followed:
            following = numbers(file, "next_observations", path, ndim=2, rows=steps)
            resets = ~np.isclose(following[:-1], obs[1:], atol=1e-5).all(1) & ~(terminals | timeouts)[:-1]
            timeouts[:-1] |= resets
            if resets.any():
                notes.append(
                    f"{int(resets.sum())} rows without an end mark are not followed by their next observation: an "
                    f"episode ends there"
                )
    ends = np.flatnonzero(terminals | timeouts) + 1
    if not len(ends) or ends[-1] != steps:
        notes.append(f"the last {steps - (ends[-1] if len(ends) else 0)} rows have no end mark; kept as truncated")
        ends = np.append(ends, steps)
    if not followed:
        notes.append(
            f"no 'next_observations': the last observation of {len(ends)} episodes is unknown, these transitions "
            f"are left out of value learning"
        )
    spec = _spec(path, width, actions.shape[1], options, notes)
    bounds = list(zip(np.concatenate([[0], ends[:-1]]), ends, strict=True))
    return ImportedLog(
        format="d4rl",
        spec=spec,
        count=len(bounds),
        episodes=_episodes(path, bounds, terminals, options.reward_key),
        notes=tuple(notes),
    )


def _spec(path: Path, width: int, actions: int, options: ReadOptions, notes: list[str]) -> Spec:
    if options.env in ("", "none"):
        notes.append("no --env: entries are numbered, bounds taken as [-1, 1], the rate is unknown")
        action = vector("action", actions, low=(-1.0,) * actions, high=(1.0,) * actions)
        return Spec((vector("observation", width),), (action,))
    env = make_env(options.env)
    spec = env_spec(env)
    env.close()
    if (width, actions) != (spec.obs_dim, spec.action_dim):
        raise SpecMismatch(
            f"{path}: observations are {width} wide and actions {actions}; '{options.env}' has {spec.obs_dim} and "
            f"{spec.action_dim}. Name the environment that the log comes from with --env."
        )
    return spec


def _episodes(path: Path, bounds: list[tuple[int, int]], terminals: Any, reward_key: str) -> Iterator[Episode]:
    with opened(path) as file:
        obs = numbers(file, "observations", path, ndim=2).astype(np.float32)
        actions = numbers(file, "actions", path, ndim=2).astype(np.float32)
        rewards = numbers(file, reward_key, path, ndim=1).astype(np.float32)
        following = None
        if "next_observations" in file:
            following = numbers(file, "next_observations", path, ndim=2, rows=len(obs)).astype(np.float32)
    for start, stop in bounds:
        final = obs[stop - 1] if following is None else following[stop - 1]
        terminated = bool(terminals[stop - 1])
        yield Episode(
            observations=np.vstack([obs[start:stop], final]),
            actions=actions[start:stop],
            rewards=rewards[start:stop],
            terminated=terminated,
            truncated=not terminated,
            # what follows a terminal row is never used, so such an episode is complete
            final_observed=following is not None or terminated,
            source=f"{path.name}:rows {start} to {stop - 1}",
        )

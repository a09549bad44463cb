"""Minari datasets of others, with flat Box observations and actions.

https://minari.farama.org. Give the dataset's folder, the one that holds `data/`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from minari.dataset.minari_storage import MinariStorage

from robot_rl.data.dataset import load_dataset
from robot_rl.data.episode import Episode
from robot_rl.data.formats.bounds import LoggedRange
from robot_rl.data.formats.log import ImportedLog, ReadOptions, sound
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import DataError, EnvError, SpecMismatch
from robot_rl.spec import Spec, vector


def read_minari(path: Path, options: ReadOptions) -> ImportedLog:
    """Open a Minari dataset folder.

    Raises:
        DataError: If it is damaged or its spaces are not flat boxes.
        SpecMismatch: If its widths are not those of the environment named.
    """
    try:
        storage = MinariStorage.read(path / "data")
        total, raw = int(storage.total_episodes), MinariStorage.read_raw_metadata(path / "data")
    except (ValueError, OSError, KeyError, AssertionError) as error:
        raise DataError(f"{path} cannot be read as a Minari dataset ({error}). Download it again.") from error
    obs, action = storage.observation_space, storage.action_space
    if not (isinstance(obs, gym.spaces.Box) and isinstance(action, gym.spaces.Box) and len(obs.shape) == 1):
        raise DataError(f"{path}: observations are {obs} and actions {action}; only flat boxes are read so far.")
    if total == 0:
        raise DataError(f"{path} holds no episodes.")
    notes: list[str] = []
    if "robot_rl" in raw:  # labels, ends and clocks are in it, whatever environment is named
        own = load_dataset(path)
        spec = _spec(path, storage, raw, options, notes) if options.env else own.spec
        return ImportedLog(format="minari", spec=spec, count=total, episodes=iter(own), notes=own.notes)
    return ImportedLog(
        format="minari",
        spec=_spec(path, storage, raw, options, notes),
        count=total,
        episodes=sound(range(total), partial(_episode, path, storage), options),
        notes=tuple(notes),
    )


def _spec(path: Path, storage: MinariStorage, raw: dict[str, Any], options: ReadOptions, notes: list[str]) -> Spec:
    env_id = options.env or str(json.loads(raw.get("env_spec") or "{}").get("id", ""))
    obs, action = cast("Any", storage.observation_space), cast("Any", storage.action_space)
    sizes = int(obs.shape[0]), int(action.shape[0])
    if env_id in ("", "none"):
        return _numbered(path, storage, sizes, options, notes)
    try:
        env = make_env(env_id)
    except EnvError as error:
        if options.env:
            raise
        notes.append(f"'{env_id}' cannot be made here, so entries are numbered: {error}")
        return _numbered(path, storage, sizes, options, notes)
    spec = env_spec(env)
    env.close()
    if sizes != (spec.obs_dim, spec.action_dim):
        raise SpecMismatch(
            f"{path}: observations are {sizes[0]} wide and actions {sizes[1]}; '{env_id}' has {spec.obs_dim} and "
            f"{spec.action_dim}. Name the environment that the data comes from with --env, or --env none."
        )
    return spec


def _numbered(
    path: Path, storage: MinariStorage, sizes: tuple[int, int], options: ReadOptions, notes: list[str]
) -> Spec:
    """A spec without an environment's names, its bounds the stated ones, or where there are none what was logged."""
    stated: Any = storage.action_space
    low, high = np.ravel(stated.low), np.ravel(stated.high)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        logged = LoggedRange()
        readable = options if options.damaged is None else replace(options, damaged=[])  # told of in the reading itself
        for episode in sound(range(int(storage.total_episodes)), partial(_episode, path, storage), readable):
            logged.add(episode.actions)
        if logged.low is None:
            raise DataError(f"{path}: none of its episodes can be read. {(readable.damaged or [''])[0]}")
        (low, high), why = logged.bounds()
        notes.append(why)
    return Spec((vector("observation", sizes[0]),), (vector("action", sizes[1], low=tuple(low), high=tuple(high)),))


def _episode(path: Path, storage: MinariStorage, index: int) -> Episode:
    raw = _raw(path, storage, index)
    terminated = bool(raw["terminations"][-1])
    for key in ("observations", "actions", "rewards"):
        if not np.isfinite(np.asarray(raw[key], np.float64)).all():
            raise DataError(f"{path}: episode {index} holds NaN or infinity in '{key}'. Repair it or leave it out.")
    return Episode(
        observations=raw["observations"],
        actions=raw["actions"],
        rewards=raw["rewards"],
        terminated=terminated,
        truncated=not terminated,
        source=f"{path.name}:episode_{index}",
    )


def _raw(path: Path, storage: MinariStorage, index: int) -> dict[str, Any]:
    try:
        return next(iter(storage.get_episodes([index])))
    except (OSError, KeyError, ValueError, AssertionError, StopIteration) as error:
        raise DataError(f"{path}: episode {index} cannot be read ({error!r}). Download it again.") from error

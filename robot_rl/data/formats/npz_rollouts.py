"""Rollouts in a .npz file: `epN/{observation, action, reward, next_observation, terminal}`.

The form of the expert data of Berkeley's CS 285. `terminal` marks the end of a rollout, for whatever reason: one
that ends at the environments' limit of 1000 steps is a truncation, a shorter one has terminated.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.data.episode import Episode
from robot_rl.data.formats.log import ImportedLog, ReadOptions, sound
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import DataError, SpecMismatch
from robot_rl.spec import Spec, vector

TIME_LIMIT = 1000  # steps; Gymnasium's MuJoCo environments
_KEYS = ("observation", "action", "reward", "next_observation", "terminal")
_NAME = re.compile(r"ep(\d+)/(\w+)")


def read_npz(path: Path, options: ReadOptions) -> ImportedLog:
    """Open a file of rollouts.

    Raises:
        DataError: If it is damaged, of another layout, or its arrays don't fit together.
        SpecMismatch: If its widths are not those of the environment named.
    """
    arrays = _load(path)
    numbers = sorted({int(m[1]) for name in arrays if (m := _NAME.fullmatch(name))})
    if not numbers:
        raise DataError(
            f"{path}: no rollouts 'ep0/observation', 'ep0/action', ...; it has "
            f"{', '.join(list(arrays)[:8]) or 'nothing'}."
        )
    episodes = list(sound(numbers, partial(_episode, arrays, path), options))
    if not episodes:
        raise DataError(f"{path}: none of its {len(numbers)} rollouts can be read. Copy or download it again.")
    widths = {(e.observations.shape[1], e.actions.shape[1]) for e in episodes}
    if len(widths) > 1:
        raise DataError(f"{path}: rollouts of several widths of observation and action: {sorted(widths)}.")
    notes = [
        f"'terminal' marks every end: at {TIME_LIMIT} steps it is taken for the time limit (truncation), before for a "
        f"termination"
    ]
    return ImportedLog(
        format="npz",
        spec=_spec(path, *widths.pop(), options, notes),
        count=len(episodes),
        episodes=iter(episodes),
        notes=tuple(notes),
    )


def _load(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as stream:
            file: Any = np.load(stream, allow_pickle=False)
            if not hasattr(file, "files"):
                raise DataError(f"{path} holds one array, not rollouts.")
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError) as error:
        raise DataError(f"{path} cannot be read as .npz ({error}). Copy or download it again.") from error


def _episode(arrays: Mapping[str, NDArray[Any]], path: Path, number: int) -> Episode:
    found: dict[str, NDArray[Any]] = {}
    for key in _KEYS:
        array = arrays.get(f"ep{number}/{key}")
        wanted = 2 if key in ("observation", "action", "next_observation") else 1
        if array is None or array.dtype.kind not in "fiub" or array.ndim != wanted:
            what = "is missing" if array is None else f"is {array.dtype} of shape {array.shape}"
            raise DataError(f"{path}: 'ep{number}/{key}' {what}; expected numbers in {wanted} dimensions.")
        if not np.isfinite(array).all():
            raise DataError(f"{path}: 'ep{number}/{key}' holds NaN or infinity. Repair it or leave the rollout out.")
        found[key] = array
    rows = {key: len(array) for key, array in found.items()}
    if len(set(rows.values())) > 1:
        raise DataError(f"{path}: ep{number} has arrays of several lengths: {rows}.")
    obs, following, end = found["observation"], found["next_observation"], found["terminal"]
    if not len(obs):
        raise DataError(f"{path}: ep{number} is empty. Leave it out.")
    odd = np.flatnonzero(~np.isclose(following[:-1], obs[1:], atol=1e-5).all(1))
    if len(odd):
        raise DataError(
            f"{path}: ep{number}: next_observation of row {odd[0]} is not observation of row {odd[0] + 1} ({len(odd)} "
            f"such rows). The rollout has lost steps; leave it out."
        )
    if end[:-1].any():
        raise DataError(
            f"{path}: ep{number} goes on after terminal in row {int(np.flatnonzero(end)[0])}. Split it there."
        )
    terminated = bool(end[-1]) and len(obs) < TIME_LIMIT
    return Episode(
        observations=np.vstack([obs, following[-1:]]),
        actions=found["action"],
        rewards=found["reward"],
        terminated=terminated,
        truncated=not terminated,
        source=f"{path.name}:ep{number}",
    )


def _spec(path: Path, obs: int, action: int, options: ReadOptions, notes: list[str]) -> Spec:
    if options.env in ("", "none"):
        notes.append("no --env: entries are numbered, bounds taken as [-1, 1], the rate is unknown")
        bounds = vector("action", action, low=(-1.0,) * action, high=(1.0,) * action)
        return Spec((vector("observation", obs),), (bounds,))
    env = make_env(options.env)
    spec = env_spec(env)
    env.close()
    if (obs, action) != (spec.obs_dim, spec.action_dim):
        raise SpecMismatch(
            f"{path}: observations are {obs} wide and actions {action}; '{options.env}' has {spec.obs_dim} and "
            f"{spec.action_dim}. Name the environment that the rollouts come from with --env, or --env none."
        )
    return spec

"""What a robomimic demonstration holds, in robomimic's own form and in Isaac Lab's.

Isaac Lab (https://isaac-sim.github.io/IsaacLab, `HDF5DatasetFileHandler`) writes `data/demo_N` with `actions`, `obs`
(a group, with further groups in it, or one flat array), `initial_state` and `states` (nested by asset:
`articulation/robot/joint_position`, `rigid_object/cube/root_pose`), the attribute `success`, and neither rewards
nor next_obs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from robot_rl.data.formats.hdf5 import Floats, group, listing, numbers
from robot_rl.data.pictures.cameras import CameraRef
from robot_rl.errors import DataError

FLAT = "obs"  # the key of observations that are one array


@dataclass(frozen=True)
class Observed:
    """Where a demonstration's observations are.

    Args:
        keys: Arrays in order; paths below `obs` or `states`.
        states: They are simulator states: the initial one and those after each step.
    """

    keys: tuple[str, ...]
    states: bool = False


def is_isaac(demo: Any) -> bool:
    """Whether a demonstration is of Isaac Lab's recorder."""
    return "initial_state" in demo or isinstance(demo.get("states"), h5py.Group)


def find_observed(demo: Any, path: Path, keys: tuple[str, ...], notes: list[str]) -> Observed:
    """Choose the arrays of numbers: two-dimensional ones of `obs`; without `obs`, the simulator states.

    Raises:
        DataError: If there are none, or a key that was asked for is missing.
    """
    obs = demo.get("obs")
    if isinstance(obs, h5py.Dataset):
        return Observed((FLAT,))
    if isinstance(obs, h5py.Group):
        found = dict(_arrays(obs))
        chosen = keys or tuple(k for k, a in found.items() if a.ndim == 2 and "/" not in k and a.dtype.kind in "fiub")
        rest = [k for k, a in found.items() if k not in chosen and a.ndim != 4]
        if rest:
            notes.append(f"not part of the observation: {_some(rest)} (--obs-keys chooses)")
    elif isinstance(demo.get("states"), h5py.Group) and isinstance(demo.get("initial_state"), h5py.Group):
        found = dict(_arrays(demo["states"]))
        chosen = keys or tuple(k for k, a in found.items() if a.ndim == 2)
        notes.append("no 'obs': the observation is the simulator's state, before the first step and after each")
        obs = demo["states"]
    else:
        raise DataError(f"{path}: group '{demo.name}/obs' is missing; there are: {listing(demo)}.")
    missing = [k for k in chosen if k not in found]
    if missing or not chosen:
        there = _some([f"{k} {a.shape}" for k, a in found.items()]) or "nothing"
        if missing:
            raise DataError(
                f"{path}: no two-dimensional observation {', '.join(missing)} in '{obs.name}'; there are: {there}. "
                "Choose others with --obs-keys."
            )
        raise DataError(
            f"{path}: no two-dimensional observation in '{obs.name}', a row of numbers a step; there are: {there}. "
            "Policies here see states, not pictures: export the robot's state beside them."
        )
    return Observed(chosen, states=str(obs.name).endswith("/states"))


def read_observed(demo: Any, path: Path, observed: Observed, steps: int) -> tuple[Floats, bool]:
    """Observations, (T+1, S), and whether the last one is logged; else it repeats the one before.

    Raises:
        DataError: If an array is missing, malformed, or of another length than the actions.
    """
    if observed.states:
        before, states = group(demo, "initial_state", path), group(demo, "states", path)
        first = np.hstack([numbers(before, k, path, ndim=2, rows=1) for k in observed.keys])
        after = np.hstack([numbers(states, k, path, ndim=2, rows=steps) for k in observed.keys])
        return np.vstack([first, after]), True
    obs = _stacked(demo, "obs", path, observed, steps)
    if "next_obs" not in demo:
        return np.vstack([obs, obs[-1:]]), False
    following = _stacked(demo, "next_obs", path, observed, steps)
    odd = np.flatnonzero(~np.isclose(following[:-1], obs[1:], atol=1e-5).all(1))
    if len(odd):
        name = demo.name.rsplit("/", 1)[1]
        raise DataError(
            f"{path}: {name}: next_obs of row {odd[0]} is not obs of row {odd[0] + 1} ({len(odd)} such rows). "
            f"The log has lost steps; repair it or leave the episode out."
        )
    return np.vstack([obs, following[-1:]]), not np.array_equal(following[-1], obs[-1])


def cameras(demo: Any, path: Path, rate_hz: float, steps: int) -> Iterator[CameraRef]:
    """Arrays of pictures in `obs`, (T, H, W, C)."""
    obs = demo.get("obs")
    if not isinstance(obs, h5py.Group):
        return
    for key, array in _arrays(obs):
        if array.ndim == 4 and len(array) == steps and array.shape[-1] in (1, 3, 4):
            yield CameraRef(
                name=key,
                shape=(array.shape[1], array.shape[2], array.shape[3]),
                fps=rate_hz,
                store="hdf5",
                file=str(path.absolute()),
                key=str(array.name),
            )


def rate_of(args: dict[str, Any]) -> float:
    """Control rate that `env_args` tells, Hz; 0 where it does not.

    robosuite states `control_freq`, Isaac Lab the physics step and its decimation.
    """
    kwargs, sim = args.get("env_kwargs"), args.get("sim_args")
    found = kwargs.get("control_freq") if isinstance(kwargs, dict) else None
    if isinstance(sim, dict) and _positive(sim.get("dt")) and _positive(sim.get("decimation")):
        found = 1.0 / (float(sim["dt"]) * float(sim["decimation"]))
    return round(float(found), 6) if found is not None and _positive(found) else 0.0


def _stacked(demo: Any, which: str, path: Path, observed: Observed, steps: int) -> Floats:
    if observed.keys == (FLAT,) and isinstance(demo.get(which), h5py.Dataset):
        return numbers(demo, which, path, ndim=2, rows=steps)
    values = group(demo, which, path)
    return np.hstack([numbers(values, k, path, ndim=2, rows=steps) for k in observed.keys])


def _arrays(parent: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key in parent:
        child = parent.get(key)
        if isinstance(child, h5py.Group) and depth < 8:
            yield from _arrays(child, f"{prefix}{key}/", depth + 1)
        elif isinstance(child, h5py.Dataset):
            yield f"{prefix}{key}", child


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")

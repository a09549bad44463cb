"""robomimic's HDF5: `data/demo_N/{actions, rewards, dones, obs/<key>, next_obs/<key>}`.

https://robomimic.github.io/docs/datasets/overview.html. Real files hold `type` where the
documentation says `env_type`; both are read. A `done` at the end of a demonstration is the end of the
recording: these environments go on, so episodes are truncated, not terminated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.data.formats.hdf5 import (
    Floats,
    group,
    json_attr,
    listing,
    numbered_groups,
    numbers,
    opened,
)
from robot_rl.data.formats.log import ImportedLog, ReadOptions
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import DataError, EnvError, SpecMismatch
from robot_rl.spec import Spec, vector

_ROBOSUITE = 1  # robomimic's EnvType
_OSC_SCALE = [0.05, 0.05, 0.05, 0.5, 0.5, 0.5]  # metres and radians an action of 1 asks for in our tasks


def read_robomimic(path: Path, options: ReadOptions) -> ImportedLog:
    """Open a robomimic file.

    Raises:
        DataError: If something is missing, malformed or contradicts itself.
        SpecMismatch: If its observations or its controller are not the environment's.
    """
    with opened(path) as file:
        data = group(file, "data", path)
        names = _chosen(file, data, path, options)
        args = json_attr(data, "env_args", path) if "env_args" in data.attrs else {}
        notes: list[str] = []
        if not args:
            notes.append("the file names no environment (attribute env_args is missing)")
        first = group(data, names[0], path)
        spec = _spec(first, path, args, options, notes)
        keys = options.obs_keys or _keys(spec, group(first, "obs", path))
        width = sum(int(np.prod(first["obs"][k].shape[1:])) for k in keys if k in first["obs"])
        if all(k in first["obs"] for k in keys) and width != spec.obs_dim:
            raise SpecMismatch(
                f"{path}: {names[0]} observes {width} numbers ({', '.join(keys)}), '{spec.env_id}' has {spec.obs_dim}. "
                f"Name another environment with --env, choose --obs-keys, or use --env none."
            )
    notes.append("an end of recording (dones) is kept as truncation: values are bootstrapped through it")
    sparse = args.get("type", args.get("env_type")) == _ROBOSUITE
    return ImportedLog(
        format="robomimic",
        spec=spec,
        count=len(names),
        episodes=_episodes(path, names, keys, sparse=sparse),
        notes=tuple(notes),
    )


def require_our_controller(config: dict[str, Any], path: Path) -> None:
    """Refuse a robosuite log whose actions mean something else than in our environments.

    Args:
        config: robosuite 1.4's `controller_configs`.
        path: File, for messages.

    Raises:
        SpecMismatch: Naming what differs.
    """
    kind = config.get("type", "OSC_POSE")
    scale = config.get("output_max", _OSC_SCALE)
    scale = [scale] * 6 if isinstance(scale, int | float) else list(scale)
    if kind != "OSC_POSE" or not config.get("control_delta", True):
        raise SpecMismatch(
            f"{path}: actions are for controller '{kind}' (control_delta {config.get('control_delta', True)}), our "
            f"robosuite tasks use OSC_POSE with deltas. Record again with that controller."
        )
    if not np.allclose(scale, _OSC_SCALE):
        raise SpecMismatch(
            f"{path}: an action of 1 asks for {scale} (m, rad), in our robosuite tasks for {_OSC_SCALE}. "
            f"Record again with that output_max."
        )


def _spec(demo: Any, path: Path, args: dict[str, Any], options: ReadOptions, notes: list[str]) -> Spec:
    env_id = options.env or _env_id(args)
    if env_id not in ("", "none"):
        if args.get("type", args.get("env_type")) == _ROBOSUITE:
            config = args.get("env_kwargs", {}).get("controller_configs", {})
            require_our_controller(config if isinstance(config, dict) else {}, path)
        try:
            env = make_env(env_id)
        except EnvError as error:
            if options.env:
                raise
            notes.append(f"'{env_id}' cannot be made here, so names and units are the file's own: {error}")
        else:
            spec = env_spec(env)
            env.close()
            return spec
    observed, actions = group(demo, "obs", path), numbers(demo, "actions", path, ndim=2)
    keys = options.obs_keys or tuple(k for k in observed if observed[k].ndim == 2)
    if not keys:
        raise DataError(f"{path}: no two-dimensional observation in '{observed.name}'; there are: {listing(observed)}.")
    entries = tuple(vector(k, numbers(observed, k, path, ndim=2).shape[1]) for k in keys)
    return Spec(
        entries,
        (vector("action", actions.shape[1], low=(-1.0,) * actions.shape[1], high=(1.0,) * actions.shape[1]),),
    )


def _env_id(args: dict[str, Any]) -> str:
    name = str(args.get("env_name", ""))
    return f"robosuite/{name}-v1" if name and args.get("type", args.get("env_type")) == _ROBOSUITE else name


def _keys(spec: Spec, observed: Any) -> tuple[str, ...]:
    """The file's observation keys that make up the spec's vector."""
    names = tuple(e.name for e in spec.observation)
    return ("flat",) if "flat" in observed and not all(n in observed for n in names) else names


def _chosen(file: Any, data: Any, path: Path, options: ReadOptions) -> list[str]:
    names = numbered_groups(data, "demo_", path)
    if not options.filter:
        return names
    mask = group(file, "mask", path)
    if options.filter not in mask:
        raise DataError(f"{path}: no filter '{options.filter}' in 'mask'; there are: {listing(mask)}.")
    wanted = {n.decode() if isinstance(n, bytes) else str(n) for n in mask[options.filter][()]}
    missing = wanted - set(names)
    if missing or not wanted:
        raise DataError(f"{path}: filter '{options.filter}' names {sorted(missing)[:4] or 'nothing'}, not in 'data'.")
    return [n for n in names if n in wanted]


def _episodes(path: Path, names: list[str], keys: tuple[str, ...], *, sparse: bool) -> Iterator[Episode]:
    with opened(path) as file:
        for name in names:
            yield _episode(group(file["data"], name, path), path, keys, sparse=sparse)


def _episode(demo: Any, path: Path, keys: tuple[str, ...], *, sparse: bool) -> Episode:
    name = demo.name.rsplit("/", 1)[1]
    actions = numbers(demo, "actions", path, ndim=2)
    steps = len(actions)
    stated = demo.attrs.get("num_samples")
    if stated is not None and int(stated) != steps:
        raise DataError(f"{path}: {name} states num_samples {int(stated)} but has {steps} actions. Repair the file.")
    obs = _observed(demo, "obs", path, keys, steps)
    final, seen = obs[-1], False
    if "next_obs" in demo:
        following = _observed(demo, "next_obs", path, keys, steps)
        odd = np.flatnonzero(~np.isclose(following[:-1], obs[1:], atol=1e-5).all(1))
        if len(odd):
            raise DataError(
                f"{path}: {name}: next_obs of row {odd[0]} is not obs of row {odd[0] + 1} ({len(odd)} such rows). "
                f"The log has lost steps; repair it or leave the episode out."
            )
        final, seen = following[-1], not np.array_equal(following[-1], obs[-1])
    rewards = numbers(demo, "rewards", path, ndim=1, rows=steps) if "rewards" in demo else np.zeros(steps)
    return Episode(
        observations=np.vstack([obs, final]).astype(np.float32),
        actions=actions.astype(np.float32),
        rewards=rewards.astype(np.float32),
        success=bool((rewards >= 1.0).any()) if sparse and "rewards" in demo else None,
        final_observed=seen,
        source=f"{path.name}:{name}",
    )


def _observed(demo: Any, which: str, path: Path, keys: tuple[str, ...], steps: int) -> Floats:
    observed = group(demo, which, path)
    return np.hstack([numbers(observed, k, path, ndim=2, rows=steps) for k in keys])

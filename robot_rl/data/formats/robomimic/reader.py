"""robomimic's HDF5: `data/demo_N/{actions, rewards, dones, obs/<key>, next_obs/<key>}`.

https://robomimic.github.io/docs/datasets/overview.html. Real files hold `type` where the
documentation says `env_type`; both are read. A `done` at the end of a demonstration is the end of the
recording: these environments go on, so episodes are truncated, not terminated. Isaac Lab writes the same
file with less or other content, see `robomimic_demo`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.data.formats.bounds import LoggedRange
from robot_rl.data.formats.contradictions import Contradictions
from robot_rl.data.formats.hdf5 import Floats, group, json_attr, listing, numbered_groups, numbers, opened
from robot_rl.data.formats.log import ImportedLog, ReadOptions, sound
from robot_rl.data.formats.robomimic.demo import Observed, cameras, find_observed, is_isaac, rate_of, read_observed
from robot_rl.data.formats.robomimic.masks import robomimic_masks
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import DataError, EnvError, SpecMismatch
from robot_rl.spec import Spec, vector

_ROBOSUITE = 1  # robomimic's EnvType
_OSC_SCALE = [0.05, 0.05, 0.05, 0.5, 0.5, 0.5]  # metres and radians an action of 1 asks for in our tasks


def read_robomimic(path: Path, options: ReadOptions) -> ImportedLog:
    """Open a robomimic file, or one of Isaac Lab's recorder.

    Raises:
        DataError: If something is missing, malformed or contradicts itself.
        SpecMismatch: If its observations or its controller are not the environment's.
    """
    notes: list[str] = []
    with opened(path) as file:
        data = group(file, "data", path)
        names = _chosen(file, data, path, options)
        splits = {} if options.filter else robomimic_masks(file, path)
        args = json_attr(data, "env_args", path) if "env_args" in data.attrs else {}
        ours = json_attr(data, "robot_rl", path) if "robot_rl" in data.attrs else {}
        seen = Contradictions(path, options.trust_rows)
        _hold_against_total(data, names, path, options, seen)
        if not args:
            notes.append("the file names no environment (attribute env_args is missing)")
        legible = names if options.damaged is None else _legible(data, names, path, options)
        first = group(data, legible[0], path)
        if ours and not options.env:
            spec = _own_spec(ours, path)
            _require_order(options.obs_keys, spec, path)
            observed = Observed(options.obs_keys or tuple(e.name.replace("/", ".") for e in spec.observation))
        else:
            spec, observed = _spec(data, legible, path, options, args=args, notes=notes)
        missing = [n for n in names if "rewards" not in group(data, n, path)]
        _require_width(
            read_observed(first, path, observed, len(numbers(first, "actions", path, ndim=2)))[0],
            spec,
            observed,
            path,
            legible[0],
        )
    if missing:
        notes.append(f"{len(missing)} of {len(names)} demonstrations have no 'rewards': they are stored as 0")
    if not ours:
        notes.append("an end of recording (dones) is kept as truncation: values are bootstrapped through it")
    sparse = args.get("type", args.get("env_type")) == _ROBOSUITE and not ours
    return ImportedLog(
        format="robomimic",
        spec=spec,
        count=len(names),
        episodes=_episodes(path, names, observed, spec.rate_hz, options, sparse=sparse),
        notes=(*notes, *seen.notes),
        splits=splits,
    )


def _legible(data: Any, names: list[str], path: Path, options: ReadOptions) -> list[str]:
    """The demonstrations from which the layout can be taken.

    Raises:
        DataError: If there are none.
    """
    found: list[str] = []
    for name in names:
        with suppress(DataError):  # said when it is read
            demo = group(data, name, path)
            observed = find_observed(demo, path, options.obs_keys, [])
            read_observed(demo, path, observed, len(numbers(demo, "actions", path, ndim=2)))
            found.append(name)
    if not found:
        raise DataError(f"{path}: none of its {len(names)} demonstrations can be read. Copy or download it again.")
    return found


def _hold_against_total(data: Any, names: list[str], path: Path, options: ReadOptions, seen: Contradictions) -> None:
    stated = data.attrs.get("total")
    if options.filter or options.damaged is not None or not isinstance(stated, int | np.integer):
        return
    found = sum(len(numbers(group(data, n, path), "actions", path, ndim=2)) for n in names)
    if int(stated) != found:
        seen.add(f"attribute 'total' of 'data' is {int(stated)}, the demonstrations hold {found} steps")


def _own_spec(ours: dict[str, Any], path: Path) -> Spec:
    try:
        return Spec.from_dict(ours["spec"])
    except (KeyError, TypeError, SpecMismatch) as error:
        raise DataError(f"{path}: attribute 'robot_rl' of 'data' holds no spec ({error}). Export it again.") from error


def _require_width(obs: Floats, spec: Spec, observed: Observed, path: Path, name: str) -> None:
    if obs.shape[1] != spec.obs_dim:
        raise SpecMismatch(
            f"{path}: {name} observes {obs.shape[1]} numbers ({', '.join(observed.keys)}), '{spec.env_id}' has "
            f"{spec.obs_dim}. Name another environment with --env, choose --obs-keys, or use --env none."
        )


def require_our_controller(config: dict[str, Any], path: Path) -> None:
    """Refuse a robosuite log whose actions mean something else than in our environments.

    Args:
        config: robosuite's `controller_configs`: of the arm, or since 1.5 of all body parts.
        path: File, for messages.

    Raises:
        SpecMismatch: Naming what differs.
    """
    config = _of_the_arm(config)
    kind = config.get("type", "OSC_POSE")
    scale = config.get("output_max", _OSC_SCALE)
    scale = [scale] * 6 if isinstance(scale, int | float) else list(scale)
    delta = config.get("control_delta", config.get("input_type", "delta") == "delta")
    if kind != "OSC_POSE" or not delta:
        asks = "deltas" if delta else "absolute poses"
        raise SpecMismatch(
            f"{path}: actions are {asks} for controller '{kind}', our robosuite tasks use OSC_POSE with deltas. Record "
            f"again with that controller."
        )
    if not np.allclose(scale, _OSC_SCALE):
        raise SpecMismatch(
            f"{path}: an action of 1 asks for {scale} (m, rad), in our robosuite tasks for {_OSC_SCALE}. "
            f"Record again with that output_max."
        )


def _of_the_arm(config: dict[str, Any]) -> dict[str, Any]:
    """The right arm's controller in a composite one, robosuite 1.5's; another is returned as it is."""
    parts: Any = config.get("body_parts")
    arms = parts.get("arms", parts) if isinstance(parts, dict) else None
    right = arms.get("right") if isinstance(arms, dict) else None
    return right if isinstance(right, dict) else config


def _require_order(keys: tuple[str, ...], spec: Spec, path: Path) -> None:
    """Refuse `--obs-keys` that would give the entries of a known layout each other's names."""
    names = [e.name for e in spec.observation]
    plain = [name.replace("/", ".") for name in names]
    odd = [key for at, key in enumerate(keys) if key in plain and plain.index(key) != at]
    if odd:
        raise SpecMismatch(
            f"{path}: --obs-keys is {' '.join(keys)}, but the layout of '{spec.env_id or 'the file'}' is "
            f"{' '.join(plain)}. Give them in that order or leave --obs-keys out; --env none takes any."
        )


def _spec(
    data: Any, names: list[str], path: Path, options: ReadOptions, *, args: dict[str, Any], notes: list[str]
) -> tuple[Spec, Observed]:
    demo = group(data, names[0], path)
    env_id = options.env or _env_id(args)
    if env_id not in ("", "none"):
        if args.get("type", args.get("env_type")) == _ROBOSUITE:
            kwargs = args.get("env_kwargs")
            config = kwargs.get("controller_configs") if isinstance(kwargs, dict) else {}
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
            _require_order(options.obs_keys, spec, path)
            return spec, Observed(options.obs_keys or _keys(spec, group(demo, "obs", path)))
    observed = find_observed(demo, path, options.obs_keys, notes)
    actions = numbers(demo, "actions", path, ndim=2)
    obs, _ = read_observed(demo, path, observed, len(actions))
    widths = [numbers(_parent(demo, observed), k, path, ndim=2).shape[1] for k in observed.keys[:-1]]
    entries = tuple(vector(k, w) for k, w in zip(observed.keys, [*widths, obs.shape[1] - sum(widths)], strict=True))
    low, high = (-1.0,) * actions.shape[1], (1.0,) * actions.shape[1]
    if is_isaac(demo):  # its actions are not confined to [-1, 1] as robomimic's are
        logged = LoggedRange()
        for name in names:
            logged.add(numbers(group(data, name, path), "actions", path, ndim=2))
        (low, high), why = logged.bounds()
        notes.append(why)
    return Spec(entries, (vector("action", actions.shape[1], low=low, high=high),), rate_hz=rate_of(args)), observed


def _parent(demo: Any, observed: Observed) -> Any:
    return demo["states"] if observed.states else demo["obs"]


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


def _episodes(
    path: Path, names: list[str], observed: Observed, rate_hz: float, options: ReadOptions, *, sparse: bool
) -> Iterator[Episode]:
    with opened(path) as file:

        def read(name: str) -> Episode:
            return _episode(group(file["data"], name, path), path, observed, rate_hz, sparse=sparse)

        yield from sound(names, read, options)


def _episode(demo: Any, path: Path, observed: Observed, rate_hz: float, *, sparse: bool) -> Episode:
    name = demo.name.rsplit("/", 1)[1]
    actions = numbers(demo, "actions", path, ndim=2)
    steps = len(actions)
    stated = demo.attrs.get("num_samples")
    if stated is not None and (np.size(stated) != 1 or np.ravel(stated)[0] != steps):
        raise DataError(f"{path}: {name} states num_samples {stated} but has {steps} actions. Repair the file.")
    if not steps:
        raise DataError(f"{path}: {name} has no actions. Leave it out of the file.")
    obs, followed = read_observed(demo, path, observed, steps)
    rewards = numbers(demo, "rewards", path, ndim=1, rows=steps) if "rewards" in demo else np.zeros(steps)
    success = bool((rewards >= 1.0).any()) if sparse and "rewards" in demo else None
    terminated = _flag(demo, "terminated", path) or False
    final = _flag(demo, "final_observed", path)
    times = (
        numbers(demo, "timestamps", path, ndim=1, rows=steps + 1)
        if "final_observed" in demo.attrs and ("timestamps" in demo)
        else None
    )
    return Episode(
        observations=obs.astype(np.float32),
        actions=actions.astype(np.float32),
        rewards=rewards.astype(np.float32),
        terminated=terminated,
        truncated=not terminated,
        success=_flag(demo, "success", path) if "success" in demo.attrs else success,
        final_observed=followed if final is None else final,
        timestamps=times,
        source=f"{path.name}:{name}",
        cameras=tuple(cameras(demo, path, rate_hz, steps)),
    )


def _flag(demo: Any, key: str, path: Path) -> bool | None:
    """A true-or-false attribute; None where there is none."""
    value = demo.attrs.get(key)
    if value is None:
        return None
    flat = np.ravel(value)
    if flat.size != 1 or flat.dtype.kind not in "biuf":
        raise DataError(f"{path}: attribute '{key}' of '{demo.name}' is {value!r}; expected true or false.")
    return bool(flat[0])

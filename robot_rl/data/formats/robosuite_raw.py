"""robosuite's own `demo.hdf5`: simulator states and actions, no observations, no rewards.

`data/demo_N` counts from 1; `states` rows are [time, qpos, qvel] before each action. Observations,
rewards and success come from setting each state in the simulator of today.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.data.formats.hdf5 import Floats, group, json_attr, numbered_groups, numbers, opened
from robot_rl.data.formats.log import ImportedLog, ReadOptions, sound
from robot_rl.data.formats.robomimic.reader import require_our_controller
from robot_rl.envs import LoggedStateEnv, env_spec, make_env
from robot_rl.errors import DataError


def read_robosuite(path: Path, options: ReadOptions) -> ImportedLog:
    """Open a raw robosuite file.

    Raises:
        DataError: If something is missing or malformed.
        EnvError: If the task or its simulator is not available.
        SpecMismatch: If its controller is not ours.
    """
    with opened(path) as file:
        data = group(file, "data", path)
        names = numbered_groups(data, "demo_", path)
        env_id = options.env or f"robosuite/{data.attrs.get('env', '')}-v1"
        if "env_info" in data.attrs:
            config = json_attr(data, "env_info", path).get("controller_configs", {})
            require_our_controller(config if isinstance(config, dict) else {}, path)
    if env_id == "none":
        raise DataError(f"{path} holds no observations; they need the simulator. Name the task with --env.")
    env = make_env(env_id, max_episode_steps=10**9)
    spec = env_spec(env)
    notes = [
        "observations, rewards and success were computed by setting each logged state in the simulator",
        "the state after the last action is not logged; that transition is left out of value learning",
    ]
    if options.replay:
        replayed = [_replays(path, name, env) for name in names]
        failed = [n for n, ok in zip(names, replayed, strict=True) if not ok]
        missed = f" (not: {', '.join(failed)})" if failed else ""
        notes.append(f"{sum(replayed)} of {len(names)} succeed when their actions are replayed open loop{missed}")
    return ImportedLog(
        format="robosuite",
        spec=spec,
        count=len(names),
        episodes=_episodes(path, names, env, options),
        notes=tuple(notes),
    )


def _episodes(path: Path, names: list[str], env: Any, options: ReadOptions) -> Iterator[Episode]:
    simulator = cast("LoggedStateEnv", env.unwrapped)
    env.reset(seed=0)
    with opened(path) as file:

        def read(name: str) -> Episode:
            demo = group(file["data"], name, path)
            actions = numbers(demo, "actions", path, ndim=2)
            states = numbers(demo, "states", path, ndim=2, rows=len(actions))
            return _episode(simulator, states, actions, str(demo.attrs.get("model_file", "")), f"{path.name}:{name}")

        yield from sound(names, read, options)
    env.close()


def _replays(path: Path, name: str, env: Any) -> bool:
    """Whether the logged actions, run from the first logged state, achieve the task."""
    with opened(path) as file:
        demo = group(file["data"], name, path)
        actions = numbers(demo, "actions", path, ndim=2)
        states = numbers(demo, "states", path, ndim=2, rows=len(actions))
        model = str(demo.attrs.get("model_file", ""))
    env.reset(seed=0)
    cast("LoggedStateEnv", env.unwrapped).observe_state(states[0], model)
    return any(env.step(action.astype(np.float32))[4]["is_success"] for action in actions)


def _episode(simulator: LoggedStateEnv, states: Floats, actions: Floats, model: str, source: str) -> Episode:
    shown = [simulator.observe_state(state, model) for state in states]
    obs = np.stack([s[0] for s in shown])
    # the reward of action t is that of the state it leads to; the last of these is not logged
    rewards = np.array([*[s[1] for s in shown][1:], shown[-1][1]], np.float32)
    return Episode(
        observations=np.vstack([obs, obs[-1]]),
        actions=actions.astype(np.float32),
        rewards=rewards,
        success=any(s[2] for s in shown),
        final_observed=False,
        source=source,
    )

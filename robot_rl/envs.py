"""Environments by their Gymnasium id, and the spec each one carries.

`robot_rl` never imports `sim`: installed packages name a function in the entry-point group
`gymnasium.envs` that registers their environments (Gymnasium itself no longer reads it since 1.0), so an
id such as "robosuite/Lift-v1" is all that is needed here.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Protocol, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import EnvError
from robot_rl.registered import load
from robot_rl.spec import Array, Entry, Spec, vector

Env = gym.Env[Any, Any]


def make_env(env_id: str, **kwargs: Any) -> Env:
    """`gymnasium.make` with errors in words.

    Args:
        env_id: Gymnasium id, such as "HalfCheetah-v5" or "robosuite/Lift-v1".
        kwargs: Passed on; `max_episode_steps` overrides the registered time limit.

    Raises:
        EnvError: If the id is unknown (the nearest ones are named) or its simulator is missing.
    """
    register_plugins()
    try:
        env = gym.make(env_id, **kwargs)
    except gym.error.DependencyNotInstalled as error:
        raise EnvError(f"'{env_id}' needs a simulator that is not installed: {error}") from error
    except ImportError as error:
        extra = env_id.split("/", maxsplit=1)[0].lower()
        raise EnvError(
            f"'{env_id}' needs a package that is not installed: {error}. Try `pip install -e '.[{extra}]'`."
        ) from error
    except gym.error.Error as error:
        near = difflib.get_close_matches(env_id, list(gym.registry), n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise EnvError(f"No environment '{env_id}'.{hint} ({error})") from error
    return IndexedActions(env) if isinstance(env.action_space, gym.spaces.Discrete) else env


def time_limit(env_id: str) -> int | None:
    """Control steps after which the environment ends an episode by default; None where it does not, or is unknown."""
    register_plugins()
    spec = gym.registry.get(env_id)
    return None if spec is None else spec.max_episode_steps


class IndexedActions(gym.ActionWrapper[Any, Any, Any]):
    """A discrete action as one number, its index, so that it travels like any other action."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        space = cast("gym.spaces.Discrete", env.action_space)
        low, high = float(space.start), float(space.start + space.n - 1)
        self.action_space = gym.spaces.Box(low, high, (1,), np.float32)
        size = int(np.prod(env.observation_space.shape or (0,)))
        if not isinstance(env.observation_space, gym.spaces.Box) or len(env.observation_space.shape) != 1:
            raise EnvError(f"Needs flat Box observations; this environment has {env.observation_space}.")
        self.robot_spec = Spec(
            observation=(vector("observation", size),),
            action=(Entry("action", ("index",), "index", (low,), (high,)),),
            rate_hz=float(env.metadata.get("render_fps") or 0.0),
            control="discrete",
            env_id=env.spec.id if env.spec else "",
        )

    def action(self, action: Array) -> int:
        """The nearest index."""
        return round(float(action[0]))


def register_plugins() -> None:
    """Let installed packages register their environments with Gymnasium; safe to call again."""
    for register in _plugins():
        register()


@functools.cache
def _plugins() -> list[Callable[[], None]]:
    return [load(point) for point in entry_points(group="gymnasium.envs")]  # names repeat


def env_spec(env: Env) -> Spec:
    """Spec of an environment: its own `robot_spec` where it has one, else derived from its spaces.

    Raises:
        EnvError: If observations or actions are not flat boxes.
    """
    if env.has_wrapper_attr("robot_spec"):
        return cast("Spec", env.get_wrapper_attr("robot_spec"))
    obs, action = env.observation_space, env.action_space
    if not isinstance(obs, gym.spaces.Box) or not isinstance(action, gym.spaces.Box) or len(obs.shape) != 1:
        raise EnvError(f"Needs flat Box spaces; this environment has {obs} and {action}.")
    dt = float(getattr(env.unwrapped, "dt", 0.0))
    size = int(action.shape[0])
    return Spec(
        observation=(vector("observation", int(obs.shape[0])),),
        action=(
            Entry(
                "action",
                tuple(map(str, range(size))),
                "1",
                tuple(np.ravel(action.low)),
                tuple(np.ravel(action.high)),
            ),
        ),
        rate_hz=1.0 / dt if dt else 0.0,
        env_id=env.spec.id if env.spec else "",
    )


class LoggedStateEnv(Protocol):
    """An environment that can show a simulator state found in a log (robosuite)."""

    def observe_state(self, state: NDArray[np.float64], model_xml: str) -> tuple[Array, float, bool]:
        """Observation (S,), reward and success in the flat MuJoCo state [time, qpos, qvel]."""
        ...


class ObservedStateEnv(Protocol):
    """An environment whose simulator can be reset to what a logged first observation shows (Adroit)."""

    def reset_to_obs(self, obs: Array) -> Array:
        """Reset the simulator to the state that shows `obs`, (S,); returns what it then observes."""
        ...

    def shows_success(self, observations: Array) -> bool:
        """Whether logged observations, (T+1, S), themselves show that the task was achieved."""
        ...


class GoalEnv(Protocol):
    """An environment whose goal can be seen in an observation (Adroit, the virtual arm)."""

    def goal_reached(self, obs: Array) -> NDArray[np.bool_]:
        """Where the goal is met, (T, S) -> (T,)."""
        ...

    def goal_progress(self, obs: Array) -> NDArray[np.float64]:
        """How near it is, (T, S) -> (T,), from 0 to 1 where it is met."""
        ...


class EndingEnv(Protocol):
    """An environment that tells from an observation whether its task ends there (locomotion, CartPole, Acrobot)."""

    def task_ends(self, observations: Array) -> NDArray[np.bool_]:
        """Whether arriving in it ends the task, (..., S) -> (...)."""
        ...


class HindsightEnv(GoalEnv, Protocol):
    """One whose goal varies, so that an episode can be told again with another (Adroit's pen, the virtual arm)."""

    def with_goal_reached(self, obs: Array, reached: Array) -> Array:
        """`obs`, (T, S), with the goal for which `reached`, (S,), is as it should be."""
        ...

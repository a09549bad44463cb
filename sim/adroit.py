"""Adroit's Door and Pen (Gymnasium-Robotics) with named observations, success labels and float32.

The hand is Rajeswaran et al., "Learning complex dexterous manipulation with deep reinforcement learning
and demonstrations", 2018; success follows their code. Upstream's rewards and dynamics are left as they are.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import EnvError
from robot_rl.spec import Array, Entry, Spec
from sim.mj import mujoco
from sim.rendering import headless

RATE_HZ = 100.0
DOOR_OPEN_RAD = 1.35
PEN_AWAY_M, PEN_SIMILARITY = 0.075, 0.95
XYZ = ("x", "y", "z")


def make_door(**kwargs: Any) -> gym.Env[Any, Any]:
    """Upstream's AdroitHandDoorEnv, without the side effects of importing it."""
    return _upstream("adroit_door", "AdroitHandDoorEnv")(**kwargs)


def make_pen(**kwargs: Any) -> gym.Env[Any, Any]:
    """Upstream's AdroitHandPenEnv, without the side effects of importing it."""
    return _upstream("adroit_pen", "AdroitHandPenEnv")(**kwargs)


class Adroit(gym.Wrapper[Array, Array, Any, Any]):
    """What Door and Pen have in common.

    `info["is_success"]` tells at each step whether the task has been achieved so far in the episode:
    when upstream's goal was met for `GOAL_STEPS` steps, not necessarily in a row.
    """

    GOAL_STEPS: ClassVar[int]

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._goal_steps = 0
        self.robot_spec: Spec = self._spec()
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self.robot_spec.obs_dim,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Upstream's reset."""
        obs, info = self.env.reset(seed=seed, options=options)
        self._goal_steps = 0
        return obs.astype(np.float32), {**info, "is_success": False}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Upstream's step of 10 ms."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._goal_steps += bool(info["success"])
        info["is_success"] = self._goal_steps >= self.GOAL_STEPS
        return obs.astype(np.float32), float(reward), terminated, truncated, info

    def render(self) -> Any:
        """Upstream's picture, drawn without a display where there is none."""
        with headless():
            return self.env.render()

    def reset_to_obs(self, obs: Array) -> Array:
        """Reset to the state at rest that shows `obs`; returns what it then observes.

        Args:
            obs: A first observation from a log, (S,).

        Raises:
            EnvError: If the size is wrong or no state shows this observation.
        """
        if obs.shape != (self.robot_spec.obs_dim,):
            raise EnvError(
                f"An observation of '{self.robot_spec.env_id}' has {self.robot_spec.obs_dim} numbers, "
                f"the log's has {obs.size}. Name the environment that the log was made in with --env."
            )
        self.reset()
        self._set_to(obs.astype(np.float64))
        shown = self._raw._get_obs().astype(np.float32)
        worst = int(np.abs(shown - obs).argmax())
        if abs(shown[worst] - obs[worst]) > 0.01:
            name = self.robot_spec.obs_names[worst]
            raise EnvError(
                f"'{self.robot_spec.env_id}' cannot be set to the logged observation: {name} is "
                f"{obs[worst]:.4f} in the log and {shown[worst]:.4f} in the simulator. Was it logged in "
                f"another environment?"
            )
        return shown

    def shows_success(self, observations: Array) -> bool:
        """Whether logged observations, (T+1, S), themselves show success; the first is before any step."""
        return int(self.goal_reached(observations[1:].astype(np.float64)).sum()) >= self.GOAL_STEPS

    def goal_reached(self, obs: NDArray[Any]) -> NDArray[np.bool_]:
        """Where upstream's goal is met in observations, (T, S) -> (T,)."""
        raise NotImplementedError

    def goal_progress(self, obs: NDArray[Any]) -> NDArray[np.float64]:
        """How near the goal observations are, (T, S) -> (T,), from 0 to 1 where it is met."""
        raise NotImplementedError

    def _spec(self) -> Spec:
        raise NotImplementedError

    def _set_to(self, obs: NDArray[np.float64]) -> None:
        raise NotImplementedError

    @property
    def _raw(self) -> Any:
        return self.env.unwrapped

    def _joint_entry(self, count: slice) -> Entry:
        model = self._raw.model
        joints = list(range(model.njnt))[count]
        low, high = model.jnt_range[joints].T
        names = tuple(model.joint(i).name for i in joints)
        return Entry("hand_joints", names, "rad", tuple(low), tuple(high))

    def _actions(self) -> tuple[Entry, ...]:
        model = self._raw.model
        names = tuple(model.actuator(i).name for i in range(model.nu))
        return (Entry("joint_targets", names, "1", (-1.0,) * model.nu, (1.0,) * model.nu),)


class Door(Adroit):
    """Undo the latch and swing the door open by 1.35 rad; success is having been there."""

    GOAL_STEPS = 1

    def goal_reached(self, obs: NDArray[Any]) -> NDArray[np.bool_]:
        return obs[:, self.robot_spec.slice_of("door_hinge")][:, 0] >= DOOR_OPEN_RAD

    def goal_progress(self, obs: NDArray[Any]) -> NDArray[np.float64]:
        """The door's angle as a share of what is asked."""
        hinge = obs[:, self.robot_spec.slice_of("door_hinge")][:, 0].astype(np.float64)
        return np.clip(hinge / DOOR_OPEN_RAD, 0.0, 1.0)

    def _spec(self) -> Spec:
        observation = (
            self._joint_entry(slice(1, 28)),  # joint 0, the arm's slide, is not observed
            Entry("latch", ("latch",), "rad"),
            Entry("door_hinge", ("door_hinge",), "rad"),
            Entry("palm_pos", XYZ, "m", frame="world"),
            Entry("handle_pos", XYZ, "m", frame="world"),
            Entry("handle_to_palm", XYZ, "m", frame="world"),
            Entry("door_open", ("door_open",), "1", (-1.0,), (1.0,)),
        )
        return Spec(observation, self._actions(), RATE_HZ, "joint_position_normalised", "AdroitHandDoor-v1")

    def _set_to(self, obs: NDArray[np.float64]) -> None:
        raw, see = self._raw, self.robot_spec.slice_of
        qpos = np.concatenate([[0.0], obs[see("hand_joints")], obs[see("door_hinge")], obs[see("latch")]])
        raw.set_state(qpos, np.zeros(raw.model.nv))
        palm, handle = raw.data.site_xpos[[raw.grasp_site_id, raw.handle_site_id]]
        # The slide moves the whole hand along a line, and the door's frame moves the handle with it.
        direction = raw.data.xaxis[0]
        qpos[0] = direction @ (obs[see("palm_pos")] - palm)
        raw.model.body_pos[raw.door_body_id] += obs[see("handle_pos")] - handle
        raw.set_state(qpos, np.zeros(raw.model.nv))


class Pen(Adroit):
    """Turn the pen in the hand as the target shows; success is 20 steps within 0.075 m and 18 degrees."""

    GOAL_STEPS = 20

    def goal_reached(self, obs: NDArray[Any]) -> NDArray[np.bool_]:
        away, similarity = self._errors(obs)
        return (away < PEN_AWAY_M) & (similarity > PEN_SIMILARITY)

    def goal_progress(self, obs: NDArray[Any]) -> NDArray[np.float64]:
        """Alignment, falling to 0 where the pen lies at 90 degrees to the target or is twice too far away."""
        away, similarity = self._errors(obs)
        near = np.clip(2.0 - away / PEN_AWAY_M, 0.0, 1.0)
        aligned = np.clip(similarity / PEN_SIMILARITY, 0.0, 1.0)
        return np.where(self.goal_reached(obs), 1.0, 0.9 * near * aligned)

    def with_goal_reached(self, obs: Array, reached: Array) -> Array:
        """The same with the pen's direction in `reached` as the target's; where the target is stays."""
        see, obs = self.robot_spec.slice_of, obs.copy()
        target = reached[see("pen_direction")]
        obs[:, see("target_direction")] = target
        obs[:, see("direction_error")] = obs[:, see("pen_direction")] - target
        return obs

    def _errors(self, obs: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distance of pen and target, m, and cosine between them, (T,) each."""
        see, obs = self.robot_spec.slice_of, obs.astype(np.float64)
        away = np.linalg.norm(obs[:, see("target_to_pen")], axis=1)
        return away, (obs[:, see("pen_direction")] * obs[:, see("target_direction")]).sum(1)

    def _spec(self) -> Spec:
        observation = (
            self._joint_entry(slice(0, 24)),
            Entry("pen_pos", XYZ, "m", frame="world"),
            Entry("pen_linear_vel", XYZ, "m/s", frame="pen at start"),
            Entry("pen_angular_vel", XYZ, "rad/s", frame="pen"),
            Entry("pen_direction", XYZ, "1", frame="world"),
            Entry("target_direction", XYZ, "1", frame="world"),
            Entry("target_to_pen", XYZ, "m", frame="world"),
            Entry("direction_error", XYZ, "1", frame="world"),
        )
        return Spec(observation, self._actions(), RATE_HZ, "joint_position_normalised", "AdroitHandPen-v1")

    def _set_to(self, obs: NDArray[np.float64]) -> None:
        raw, see = self._raw, self.robot_spec.slice_of
        start = np.zeros(9)
        mujoco.mju_quat2Mat(start, raw.model.body_quat[raw.obj_body_id])
        into_start = start.reshape(3, 3).T
        slide = into_start @ (obs[see("pen_pos")] - raw.model.body_pos[raw.obj_body_id])
        # Hinges x, y, z in this order; the pen is round, so that z is free and left at 0.
        x, y, z = into_start @ obs[see("pen_direction")]
        turn = [np.arctan2(-y, z), np.arcsin(np.clip(x, -1.0, 1.0)), 0.0]
        qvel = np.zeros(raw.model.nv)
        qvel[-6:-3], qvel[-3:] = obs[see("pen_linear_vel")], obs[see("pen_angular_vel")]
        mujoco.mju_quatZ2Vec(raw.model.body_quat[raw.target_obj_body_id], obs[see("target_direction")])
        raw.set_state(np.concatenate([obs[see("hand_joints")], slide, turn]), qvel)


def _upstream(module: str, name: str) -> Any:
    """A class of Gymnasium-Robotics.

    Importing that package registers some 200 ids over ours, with a warning for each, and prints a notice
    about rewards of ids that we do not use: both are undone.
    """
    ours = {key: gym.registry.pop(key) for key in ("AdroitHandDoor-v1", "AdroitHandPen-v1")}
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = __import__(f"gymnasium_robotics.envs.adroit_hand.{module}", fromlist=[name])
    except ImportError as error:
        raise EnvError(
            f"Adroit needs Gymnasium-Robotics ({error}). Install it with: pip install -e '.[adroit]'"
        ) from error
    finally:
        gym.registry.update(ours)
    return getattr(found, name)

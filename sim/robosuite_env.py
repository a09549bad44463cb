"""robosuite tasks as Gymnasium environments with named state observations.

A Panda at 20 Hz under robosuite's default operational-space controller. Observations are robomimic's
low-dimensional entries, in its order (or, `shared`, in one layout for all tasks), and a function of the
simulator state alone: setting a logged state shows what the robot saw there.
"""

from __future__ import annotations

import logging
import os
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import EnvError
from robot_rl.spec import Array, Spec
from sim.logged_state import require_same_joints, set_fixed_bodies
from sim.mj import mujoco
from sim.rendering import Offscreen
from sim.robosuite_shared import object_values, require_task
from sim.robosuite_spec import ROBOT_ENTRIES, build_spec

RATE_HZ = 20
COLLISION_SHAPES = 0  # robosuite's geometry group; the visible shapes are in group 1
Joints = NDArray[np.float64]


class RobosuiteEnv(gym.Env[Array, Array]):
    """One robosuite task with a Panda, without cameras.

    Args:
        task: robosuite's name of the task, such as "Lift".
        reward_shaping: Give robosuite's dense reward; else 1 where the task is achieved, 0 elsewhere.
        terminate_on_success: End the episode at the first success.
        render_mode: "rgb_array" to let `render` draw, else None.
        width: Width of a rendered picture, pixels.
        height: Height of a rendered picture, pixels.
        camera: One of the scene's cameras, such as "frontview" or "agentview".
        shared: Observe in the layout that all tasks share (`sim.robosuite_shared`) instead of robomimic's.

    `info["is_success"]` tells at each step whether the task has been achieved so far in the episode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RATE_HZ}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self,
        task: str,
        *,
        reward_shaping: bool = False,
        terminate_on_success: bool = False,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
        camera: str = "frontview",
        shared: bool = False,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise EnvError(f"render_mode '{render_mode}' is not offered; use 'rgb_array' or leave it out.")
        if shared:
            require_task(task)
        self._task, self._shared = task, shared
        self._raw = _make_raw(task, reward_shaping)
        self._terminate_on_success = terminate_on_success
        self._succeeded = False
        self._offscreen = Offscreen(width, height, camera, hidden_groups=(COLLISION_SHAPES,))
        self.render_mode = render_mode
        self.robot_spec: Spec = build_spec(self._raw, task, rate_hz=RATE_HZ, shared=shared)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self.robot_spec.obs_dim,), np.float32)
        self.action_space = gym.spaces.Box(self.robot_spec.action_low, self.robot_spec.action_high)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Place robot and objects anew; a seed fixes the whole episode, bit for bit."""
        super().reset(seed=seed, options=options)
        if seed is not None:
            # robosuite's samplers and object sizes all draw from this one generator: reseed it in place.
            self._raw.rng.bit_generator.state = self.np_random.bit_generator.state
        self._raw.reset()
        self._succeeded = bool(self._raw._check_success())
        return self._observe(), {"is_success": self._succeeded}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Advance one control period of 50 ms."""
        command = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        self._raw.step(command)
        obs = self._observe()
        success = bool(self._raw._check_success())
        self._succeeded = self._succeeded or success
        terminated = self._terminate_on_success and self._succeeded
        reward = float(self._raw.reward(command))
        return obs, reward, terminated, False, {"is_success": self._succeeded}

    def observe_state(self, state: NDArray[np.float64], model_xml: str) -> tuple[Array, float, bool]:
        """Observation (S,), reward and success in a logged state; the episode in progress is lost.

        The current model is used: only the joints' order and the pose of fixed objects (a door's frame)
        are taken from the logged one, whose mesh files an other robosuite version may no longer have.

        Args:
            state: Flat MuJoCo state [time, qpos, qvel].
            model_xml: The model that was logged with it, as XML; empty where the log has none.

        Raises:
            EnvError: If size or joints of the logged model are not this task's.
        """
        model, data = self._model, self._data
        if state.shape != (1 + model.nq + model.nv,):
            raise EnvError(
                f"A logged state has {state.size} numbers, but '{self.robot_spec.env_id}' has "
                f"{1 + model.nq + model.nv} (time, {model.nq} positions, {model.nv} velocities). "
                f"Name the environment that the log was made in with --env."
            )
        if model_xml:
            require_same_joints(model, model_xml, self.robot_spec.env_id)
            fixed = [thing.root_body for thing in self._raw.model.mujoco_objects]
            set_fixed_bodies(model, model_xml, fixed)
        data.time = state[0]
        data.qpos[:] = state[1 : 1 + model.nq]
        data.qvel[:] = state[1 + model.nq :]
        mujoco.mj_forward(model, data)
        obs = self._observe()
        self._succeeded = bool(self._raw._check_success())
        return obs, float(self._raw.reward(None)), self._succeeded

    def joint_positions(self) -> Joints:
        """Arm joint positions, (7,), rad."""
        return self._data.qpos[self._raw.robots[0]._ref_joint_pos_indexes].copy()

    def joint_velocities(self) -> Joints:
        """Arm joint velocities, (7,), rad/s."""
        return self._data.qvel[self._raw.robots[0]._ref_joint_vel_indexes].copy()

    def joint_limits(self) -> Joints:
        """Lower and upper arm joint positions, (2, 7), rad."""
        return self._model.jnt_range[self._raw.robots[0]._ref_joint_indexes].T.copy()

    def eef_position(self) -> Joints:
        """Grip point between the fingers, in the world frame, (3,), m."""
        site = self._raw.robots[0].eef_site_id["right"]
        return self._data.site_xpos[site].copy()

    def render(self) -> NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The scene as an RGB picture, (height, width, 3); None unless made with "rgb_array".

        Raises:
            EnvError: If this machine has no OpenGL for off-screen drawing.
        """
        return self._offscreen.draw(self._model, self._data) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free the simulator and the drawing context."""
        self._offscreen.close()
        self._raw.close()

    @property
    def _model(self) -> Any:
        return self._raw.sim.model._model  # replaced at each reset: do not keep

    @property
    def _data(self) -> Any:
        return self._raw.sim.data._data

    def _observe(self) -> Array:
        # After a step body poses lag the joints by one substep; bring them up to date.
        mujoco.mj_kinematics(self._model, self._data)
        # Twice: some sensors are computed from others that come later in the list.
        self._raw._update_observables(force=True)
        values = self._raw._get_observations(force_update=True)
        things = object_values(self._task, self._raw, values) if self._shared else values["object-state"]
        parts = [things, *(values[name] for name, *_ in ROBOT_ENTRIES)]
        return np.concatenate(parts).astype(np.float32)


def _make_raw(task: str, reward_shaping: bool) -> Any:
    logger = logging.getLogger("robosuite_logs")
    logger.addFilter(_errors_only)  # hints about optional robots and macros, at each import and make
    chosen = os.environ.get("MUJOCO_GL")
    try:
        import robosuite  # noqa: PLC0415 - a heavy optional dependency
    except ImportError as error:
        raise EnvError(
            f"robosuite cannot be imported ({error}). In the checkout: pip install -e '.[robosuite]'; where libGL is "
            f"what is missing, pip install opencv-python-headless in place of opencv-python, as `make setup` does."
        ) from error
    if chosen is None:
        os.environ.pop("MUJOCO_GL", None)  # robosuite sets it to EGL, which other processes may lack
    known = cast("list[str]", sorted(robosuite.ALL_ENVIRONMENTS))
    if task not in known:
        raise EnvError(f"robosuite has no task '{task}'; it has: {', '.join(known)}.")
    return robosuite.make(
        task,
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=False,
        use_camera_obs=False,
        reward_shaping=reward_shaping,
        control_freq=RATE_HZ,
        ignore_done=True,
    )


def _errors_only(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR

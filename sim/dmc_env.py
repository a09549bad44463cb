"""Planar bodies of the DeepMind Control Suite as Gymnasium environments that observe and act in one layout.

The suite's bodies differ in joints and in control rate, so that logs of one would not fit another. Here each joint
has its place (`sim.dmc_tasks`): what a body lacks is zero in the observation and ignored in the action, and all run
at 20 Hz. Source: Tassa et al., "DeepMind Control Suite", 2018.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import EnvError
from robot_rl.spec import Array, Spec
from sim.dmc_tasks import BEST, BODIES, JOINTS, RATE_HZ, TASKS, build_spec, env_id_of
from sim.rendering import Offscreen, headless


class DMCEnv(gym.Env[Array, Array]):
    """One task of the DeepMind Control Suite.

    Args:
        task: Body and task, such as "walker-walk".
        render_mode: "rgb_array" to let `render` draw, else None.
        width: Width of a rendered picture, pixels.
        height: Height of a rendered picture, pixels.
        camera: One of the scene's cameras: "side", "back", or the hopper's "cam0".

    The reward is the suite's, at the end of the control step, times what makes an episode of the default length
    worth 1,000 at best, as there. An episode never terminates.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RATE_HZ}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self,
        task: str,
        *,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
        camera: str = "",
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise EnvError(f"render_mode '{render_mode}' is not offered; use 'rgb_array' or leave it out.")
        if task not in TASKS:
            raise EnvError(f"There is no task '{task}' in the shared layout; there are: {', '.join(TASKS)}.")
        body = task.partition("-")[0]
        self._env = _load(*task.split("-"))
        self._physics: Any = self._env.physics
        self._worth = BEST / TASKS[task]
        joints = dict(zip(JOINTS, BODIES[body], strict=True))
        names = self._physics.named.model
        position = dict(zip(names.jnt_qposadr.axes.row.names, names.jnt_qposadr[:], strict=True))
        speed = dict(zip(names.jnt_dofadr.axes.row.names, names.jnt_dofadr[:], strict=True))
        actuators = list(names.actuator_gear.axes.row.names)
        have = [i for i, name in enumerate(joints.values()) if name]
        own = [name for name in joints.values() if name]
        self._places = np.asarray(have)  # in the layout, of the body's joints
        self._qpos = np.asarray([position[name] for name in own])
        self._qvel = np.asarray([speed[name] for name in own])
        self._order = np.asarray([own.index(name) for name in actuators])  # the suite's own order of actions
        self._root = np.asarray([speed[name] for name in ("rootx", "rootz", "rooty")])
        self._offscreen = Offscreen(width, height, camera or ("cam0" if body == "hopper" else "side"))
        self.render_mode = render_mode
        self.robot_spec: Spec = build_spec(env_id=env_id_of(task))
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self.robot_spec.obs_dim,), np.float32)
        self.action_space = gym.spaces.Box(self.robot_spec.action_low, self.robot_spec.action_high)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Draw a pose; a seed fixes the whole episode, bit for bit."""
        super().reset(seed=seed, options=options)
        self._env.task.random.seed(int(self.np_random.integers(2**32)))
        self._env.reset()
        return self._observe(), {}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Hold `action`, (7,), for 50 ms."""
        command = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        told = self._env.step(command[self._places][self._order])
        return self._observe(), float(told.reward) * self._worth, False, False, {}

    def render(self) -> NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The scene as an RGB picture, (height, width, 3); None unless made with "rgb_array".

        Raises:
            EnvError: If this machine has no OpenGL for off-screen drawing.
        """
        if self.render_mode != "rgb_array":
            return None
        return self._offscreen.draw(self._physics.model.ptr, self._physics.data.ptr)

    def close(self) -> None:
        """Free the drawing context."""
        self._offscreen.close()

    def _observe(self) -> Array:
        torso = self._physics.named.data
        positions, velocities = np.zeros(len(JOINTS)), np.zeros(len(JOINTS))
        positions[self._places] = self._physics.data.qpos[self._qpos]
        velocities[self._places] = self._physics.data.qvel[self._qvel]
        across, up = torso.xmat["torso", ["xz", "zz"]]
        root = self._physics.data.qvel[self._root]
        return np.concatenate([[torso.xpos["torso", "z"], up, across], root, positions, velocities], dtype=np.float32)


def _load(body: str, goal: str) -> Any:
    """The suite's environment at this project's control rate and without a time limit of its own."""
    with headless():  # else it looks for a display while it is imported
        from dm_control import suite  # noqa: PLC0415 - a heavy optional dependency
        from dm_control.rl.control import Environment  # noqa: PLC0415 - a heavy optional dependency

    raw: Any = suite.load(body, goal)
    return Environment(raw.physics, raw.task, control_timestep=1.0 / RATE_HZ)

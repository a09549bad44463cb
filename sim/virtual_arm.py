"""A 7-joint arm of our own, with a reach task: the arm that every machine has.

Link lengths and limits are those of a Franka Research 3; the MJCF is ours. Actions are joint position
targets, as a real arm's position interface takes them. Needs mujoco alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import EnvError
from robot_rl.spec import Array, Entry, Spec
from sim.mj import mujoco
from sim.reach import REACHED, reach_distance
from sim.rendering import Offscreen

MODEL_FILE = Path(__file__).parent / "assets" / "virtual_arm.xml"
RATE_HZ = 50
JOINTS = tuple(f"joint{i}" for i in range(1, 8))
HOME = np.array([0.0, -0.5, 0.0, -2.2, 0.0, 1.8, 0.78])  # rad
START_SPREAD = 0.15  # rad around HOME
FAR = 0.5  # m, where progress towards the goal begins
GOAL_LOW, GOAL_HIGH = np.array([0.35, -0.3, 0.2]), np.array([0.6, 0.3, 0.6])  # m, world

Joints = NDArray[np.float64]


class VirtualArm(gym.Env[Array, Array]):
    """Bring the tool to a goal position.

    Args:
        rate_hz: Control rate, Hz; the simulator's 500 Hz must be a multiple of it.
        render_mode: "rgb_array" to let `render` draw, else None.
        width: Width of a rendered picture, pixels.
        height: Height of a rendered picture, pixels.

    The reward is minus the distance from tool to goal, m. `info["is_success"]` tells whether the tool is
    within 3 cm of the goal at this step.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RATE_HZ}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self, *, rate_hz: int = RATE_HZ, render_mode: str | None = None, width: int = 480, height: int = 480
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise EnvError(f"render_mode '{render_mode}' is not offered; use 'rgb_array' or leave it out.")
        self._model = load_model()
        self._data: Any = mujoco.MjData(self._model)
        simulator_hz = round(1.0 / self._model.opt.timestep)
        if rate_hz < 1 or simulator_hz % rate_hz:
            raise EnvError(f"rate_hz is {rate_hz}; the simulator's {simulator_hz} Hz must be a multiple of it.")
        self._substeps = simulator_hz // rate_hz
        self._tool = int(self._model.site("tool").id)
        self._goal = np.zeros(3)
        self._offscreen = Offscreen(width, height, "side")
        self.render_mode = render_mode
        self.robot_spec: Spec = build_spec(self._model, float(rate_hz))
        low, high = (np.array([v for e in self.robot_spec.observation for v in getattr(e, side)], np.float32)
                     for side in ("low", "high"))  # fmt: skip
        self.observation_space = gym.spaces.Box(low, high, dtype=np.float32)
        self.action_space = gym.spaces.Box(self.robot_spec.action_low, self.robot_spec.action_high)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Put the arm near home, at rest, and draw a goal; a seed fixes both."""
        super().reset(seed=seed, options=options)
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = HOME + self.np_random.uniform(-START_SPREAD, START_SPREAD, HOME.shape)
        self._data.ctrl[:] = self._data.qpos
        self._goal = self.np_random.uniform(GOAL_LOW, GOAL_HIGH)
        self._data.mocap_pos[0] = self._goal
        mujoco.mj_forward(self._model, self._data)
        return self._observe(), {"is_success": self._distance() <= REACHED}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Hold joint targets `action`, (7,), rad, for one control period."""
        self._data.ctrl[:] = action  # MuJoCo clamps to the joint ranges
        mujoco.mj_step(self._model, self._data, self._substeps)
        mujoco.mj_kinematics(self._model, self._data)  # the tool's pose lags the joints by one substep
        distance = self._distance()
        return self._observe(), -distance, False, False, {"is_success": distance <= REACHED}

    def goal_reached(self, obs: NDArray[Any]) -> NDArray[np.bool_]:
        """Where the tool is within 3 cm of the goal, (T, S) -> (T,)."""
        return self._away(obs) <= REACHED

    def goal_progress(self, obs: NDArray[Any]) -> NDArray[np.float64]:
        """How near it is, falling to 0 at a distance of 0.5 m, (T, S) -> (T,); 1 where the goal is reached."""
        away = self._away(obs)
        return np.where(away <= REACHED, 1.0, np.clip(1.0 - away / FAR, 0.0, 1.0))

    def with_goal_reached(self, obs: Array, reached: Array) -> Array:
        """`obs`, (T, S), with the goal where the tool is in `reached`, (S,)."""
        obs = obs.copy()
        obs[:, self.robot_spec.slice_of("goal_pos")] = reached[self.robot_spec.slice_of("tool_pos")]
        return obs

    def joint_positions(self) -> Joints:
        """Joint positions, (7,), rad."""
        return self._data.qpos.copy()

    def joint_velocities(self) -> Joints:
        """Joint velocities, (7,), rad/s."""
        return self._data.qvel.copy()

    def joint_limits(self) -> Joints:
        """Lower and upper joint positions, (2, 7), rad."""
        return self._model.jnt_range.T.copy()

    def eef_position(self) -> Joints:
        """Tool position in the world frame, (3,), m."""
        return self._data.site_xpos[self._tool].copy()

    def render(self) -> NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The scene as an RGB picture, (height, width, 3); None unless made with "rgb_array"."""
        return self._offscreen.draw(self._model, self._data) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free the drawing context."""
        self._offscreen.close()

    def _distance(self) -> float:
        return reach_distance(self._data.site_xpos[self._tool], self._goal)

    def _away(self, obs: NDArray[Any]) -> NDArray[np.float64]:
        see = self.robot_spec.slice_of
        return np.linalg.norm(obs[:, see("tool_pos")].astype(np.float64) - obs[:, see("goal_pos")], axis=1)

    def _observe(self) -> Array:
        data = self._data
        return np.concatenate([data.qpos, data.qvel, data.site_xpos[self._tool], self._goal], dtype=np.float32)


def load_model() -> Any:
    """The arm's MuJoCo model."""
    return mujoco.MjModel.from_xml_path(str(MODEL_FILE))


def build_spec(model: Any, rate_hz: float) -> Spec:
    """Spec of the arm and its reach task.

    Args:
        model: The arm's MuJoCo model, for the joint ranges.
        rate_hz: Control rate, Hz.
    """
    low, high = tuple(map(float, model.jnt_range[:, 0])), tuple(map(float, model.jnt_range[:, 1]))
    axes = ("x", "y", "z")
    return Spec(
        observation=(
            # Unbounded: a soft joint limit can be overrun a little, and an observation says what is.
            Entry("joint_pos", JOINTS, "rad"),
            Entry("joint_vel", JOINTS, "rad/s"),
            Entry("tool_pos", axes, "m", frame="world"),
            Entry("goal_pos", axes, "m", frame="world"),
        ),
        action=(Entry("joint_pos_target", JOINTS, "rad", low, high),),
        rate_hz=rate_hz,
        control="joint_position",
        env_id="VirtualArm-v1",
    )

"""Meta-World's tasks, version 3, as Gymnasium environments with named state observations.

One Sawyer, whose hand is pulled through the scene and keeps its orientation. The goal is visible, and goal
and objects are drawn anew at each reset. Source: McLean et al., "Meta-World+", 2025; two simulator steps an
action and summed rewards as in Hansen et al., "TD-MPC2", 2024.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import EnvError
from robot_rl.spec import Array, Spec
from sim.metaworld_spec import FROM_HAND, METAWORLD_DIM, build_spec
from sim.metaworld_tasks import VERSION, env_id_of
from sim.rendering import Offscreen

ACTION_REPEAT = 2
RATE_HZ = 40  # Meta-World's 80 steps a second over ACTION_REPEAT


class MetaWorldEnv(gym.Env[Array, Array]):
    """One Meta-World task.

    Args:
        task: Meta-World's name without its version, such as "door-close".
        action_repeat: Simulator steps, of 12.5 ms each, for which an action is held.
        render_mode: "rgb_array" to let `render` draw, else None.
        width: Width of a rendered picture, pixels.
        height: Height of a rendered picture, pixels.
        camera: One of the scene's cameras, such as "corner2" or "topview".

    The reward is Meta-World's dense one, 0 to 10, summed over the simulator steps of an action: 0 to 20.
    `info["is_success"]` tells at each step whether the task has been achieved so far in the episode. An
    episode never terminates.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RATE_HZ}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self,
        task: str,
        *,
        action_repeat: int = ACTION_REPEAT,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
        camera: str = "corner2",
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise EnvError(f"render_mode '{render_mode}' is not offered; use 'rgb_array' or leave it out.")
        if action_repeat < 1:
            raise EnvError(f"action_repeat is {action_repeat}; an action is held for 1 simulator step or more.")
        self._raw = _make_raw(task)
        self._repeat = action_repeat
        self._succeeded = False
        self._camera = camera
        self._offscreen = Offscreen(width, height, camera)
        self.render_mode = render_mode
        self.robot_spec: Spec = build_spec(env_id=env_id_of(task), rate_hz=1.0 / (self._raw.dt * action_repeat))
        where = self.robot_spec.slice_of
        self._hand = where("hand_pos")
        self._ways = [(where(f"{name}_from_hand"), where(f"{name}_pos")) for name in FROM_HAND]
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self.robot_spec.obs_dim,), np.float32)
        self.action_space = gym.spaces.Box(self.robot_spec.action_low, self.robot_spec.action_high)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Draw goal and objects anew; a seed fixes the whole episode, bit for bit."""
        super().reset(seed=seed, options=options)
        self._raw.np_random = self.np_random  # its own `reset` ignores seeds
        obs, _ = self._raw.reset()
        self._succeeded = False
        return self._observe(obs), {"is_success": False}

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Hold `action`, (4,), for one control period: 25 ms unless `action_repeat` says otherwise."""
        command = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        total = 0.0
        obs = np.empty(0)
        for _ in range(self._repeat):
            obs, reward, _, _, info = self._raw.step(command)
            total += float(reward)
            self._succeeded = self._succeeded or bool(info["success"])
        return self._observe(obs), total, False, False, {"is_success": self._succeeded}

    def render(self) -> NDArray[np.uint8] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The scene as an RGB picture, (height, width, 3); None unless made with "rgb_array".

        Raises:
            EnvError: If this machine has no OpenGL for off-screen drawing.
        """
        if self.render_mode != "rgb_array":
            return None
        picture = self._offscreen.draw(self._raw.model, self._raw.data)
        up = self._raw.data.camera(self._camera).xmat.reshape(3, 3)[2, 1]
        return np.ascontiguousarray(picture[::-1, ::-1]) if up < 0 else picture  # most cameras stand on their head

    def _observe(self, raw: NDArray[np.float64]) -> Array:
        """Meta-World's numbers and the ways from the hand, zero to what the task lacks."""
        obs = np.zeros(self.robot_spec.obs_dim, np.float32)
        obs[:METAWORLD_DIM] = raw
        for way, other in self._ways:
            if obs[other].any():
                obs[way] = raw[other] - raw[self._hand]
        return obs

    def close(self) -> None:
        """Free the simulator and the drawing context."""
        self._offscreen.close()
        self._raw.close()


def _make_raw(task: str) -> Any:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS  # noqa: PLC0415 - a heavy optional dependency

    name = f"{task}-{VERSION}"
    if name not in ALL_V3_ENVIRONMENTS:
        raise EnvError(f"Meta-World has no task '{name}'; it has: {', '.join(sorted(ALL_V3_ENVIRONMENTS))}.")
    raw: Any = ALL_V3_ENVIRONMENTS[name]()
    raw._partially_observable = False  # shows the goal...
    del raw.sawyer_observation_space  # ...for which the cached bounds, zero, must be computed anew
    raw._set_task_called = True
    raw._freeze_rand_vec, raw.seeded_rand_vec = False, True  # draws goals, and from `np_random`
    raw.max_path_length = math.inf  # else a step beyond 500 is an error; the time limit is Gymnasium's
    return raw

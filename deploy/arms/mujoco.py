"""A simulated arm in this process: any Gymnasium environment that tells its joint state."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from deploy.arms.arm import ArmState
from deploy.arms.drivers import DriverOptions, SimOptions
from deploy.arms.schema import ArmConfig
from robot_rl.envs import Env, env_spec, make_env, time_limit
from robot_rl.errors import ConfigError, EnvError
from robot_rl.spec import Array, Spec

JOINT_METHODS = ("joint_positions", "joint_velocities", "eef_position")


class MujocoArm:
    """Steps an environment in `advance`, beside the control tick. Its time limit ends an episode.

    Args:
        name: The config's name, for messages.
        env_id: Gymnasium id of an environment with `robot_spec` and the methods in `JOINT_METHODS`.
        joints: Number of joints in the config.
        seed: Of the first episode; the i-th uses `seed + i`.
        commands_per_step: Commands for each policy action.
        rate_hz: Rate of policies, Hz; the environment is made for that many times `commands_per_step`.
            0 for the environment's own rate.
        env_options: Passed to the environment, such as `max_episode_steps`.
    """

    Options = DriverOptions

    def __init__(
        self,
        name: str,
        env_id: str,
        *,
        joints: int,
        seed: int = 0,
        commands_per_step: int = 1,
        rate_hz: float = 0.0,
        **env_options: Any,
    ) -> None:
        self.name = name
        self._env_id, self._joints, self.seed = env_id, joints, seed - 1
        self._commands_per_step, self._rate_hz = commands_per_step, rate_hz
        self._options = env_options
        if rate_hz:
            self._options = {**env_options, "rate_hz": round(rate_hz * commands_per_step)}
        self._env: Env | None = None
        self._robot: Any = None
        self._spec: Spec | None = None
        self._obs: Array = np.zeros(0, np.float32)
        self._action: Array = np.zeros(0, np.float32)
        self._over, self._terminated = True, False
        self._return, self._reward = 0.0, 0.0
        self._success: bool | None = None

    @classmethod
    def make(cls, config: ArmConfig, sim: SimOptions) -> MujocoArm:
        """The arm of a config."""
        fast, env_id = config.commands_per_step, sim.env_id or config.env
        steps = time_limit(env_id) if sim.episode_steps is None and fast > 1 else sim.episode_steps
        options = {} if steps is None else {"max_episode_steps": steps * fast}  # the environment counts commands
        return cls(
            config.name,
            env_id,
            joints=len(config.joints),
            seed=sim.seed,
            commands_per_step=fast,
            rate_hz=config.rate_hz if fast > 1 else 0.0,
            **options,
        )

    @property
    def spec(self) -> Spec:
        """The environment's spec, at the rate of policies.

        Raises:
            EnvError: Before `connect`.
        """
        if self._spec is None:
            raise EnvError(f"Arm '{self.name}' is not connected; call connect() first.")
        return self._spec

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self._over

    @property
    def terminated(self) -> bool:
        """Whether the task itself ended the episode, and not a time limit."""
        return self._terminated

    @property
    def success(self) -> bool | None:
        """The environment's `is_success` at the last step; None where it does not say."""
        return self._success

    @property
    def reward(self) -> float:
        """Of the last `advance`."""
        return self._reward

    @property
    def episode_return(self) -> float:
        """Sum of the episode's rewards."""
        return self._return

    def connect(self) -> None:
        """Make the environment; `restart` begins an episode.

        Raises:
            EnvError: If the environment is unknown or does not tell its joint state.
            ConfigError: If it has another number of joints than the config.
        """
        if not self._env_id:
            raise ConfigError(f"Arm '{self.name}' names no environment. Set `env:` in its file or give --env ID.")
        env = make_env(self._env_id, **self._options)
        robot = cast("Any", env.unwrapped)
        missing = [m for m in ("robot_spec", *JOINT_METHODS) if not hasattr(robot, m)]
        if missing:
            env.close()
            raise EnvError(
                f"'{self._env_id}' does not tell its joint state (no {', '.join(missing)}), so nothing could "
                f"keep it within limits. Serve VirtualArm-v1 or a robosuite task."
            )
        spec = env_spec(env)
        if self._commands_per_step > 1:
            spec = replace(spec, rate_hz=spec.rate_hz / self._commands_per_step)
        self._env, self._robot, self._spec = env, robot, spec
        self._action = np.zeros(self._spec.action_dim, np.float32)
        self.restart()
        found = len(robot.joint_positions())
        if found != self._joints:
            self.close()
            raise ConfigError(f"Arm '{self.name}' lists {self._joints} joints, '{self._env_id}' has {found}.")

    def restart(self, seed: int | None = None) -> None:
        """Begin the next episode, or the one of `seed`."""
        self.seed = self.seed + 1 if seed is None else seed
        obs, info = self._connected().reset(seed=self.seed)
        self._obs = np.asarray(obs, np.float32)
        self._over, self._terminated = False, False
        self._return, self._reward = 0.0, 0.0
        self._success = bool(info["is_success"]) if "is_success" in info else None

    def read(self) -> ArmState:
        """The simulator's state; simulated time stands still between commands, so it is always fresh."""
        robot = self._robot
        return ArmState(
            self._obs,
            robot.joint_positions(),
            robot.joint_velocities(),
            robot.eef_position(),
            time.monotonic(),
        )

    def command(self, action: NDArray[np.float64]) -> None:
        """Take the targets for the control period that `advance` simulates.

        Raises:
            EnvError: If the episode is over.
        """
        if self._over:
            raise EnvError(f"Arm '{self.name}': the episode is over; call restart() first.")
        self._action[:] = action

    def advance(self) -> None:
        """Simulate one control period under the last command."""
        obs, reward, terminated, truncated, info = self._connected().step(self._action)
        self._obs = np.asarray(obs, np.float32)
        self._reward = float(reward)
        self._return += self._reward
        self._over, self._terminated = terminated or truncated, terminated
        if "is_success" in info:
            self._success = bool(info["is_success"])

    def hold(self) -> None:
        """Nothing to do: simulated time stands still between commands."""

    def close(self) -> None:
        """Close the environment; a second call changes nothing."""
        if self._env is not None:
            self._env.close()
        self._env, self._over = None, True

    def _connected(self) -> Env:
        if self._env is None:
            raise EnvError(f"Arm '{self.name}' is not connected; call connect() first.")
        return self._env

"""Success criteria, on stand-ins whose outcomes are known."""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np
import pytest

from robot_rl.envs import make_env
from sim.adroit import Adroit, Door, Pen
from sim.robosuite_env import RobosuiteEnv


class Scripted(gym.Env[Any, Any]):
    """Meets the goal at the steps it is told."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float64)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, goals: list[bool]) -> None:
        self._goals = goals
        self._left = iter(goals)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._left = iter(self._goals)
        return np.zeros(2), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(2), 0.0, False, False, {"success": next(self._left)}


def labels(kind: type[Adroit], goals: list[bool], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    real = make_env(f"AdroitHand{kind.__name__}-v1").get_wrapper_attr("robot_spec")
    monkeypatch.setattr(kind, "_spec", lambda self: real)
    env = kind(Scripted(goals))
    out: list[bool] = []
    for _ in range(2):  # the second episode must not remember the first
        _, info = env.reset()
        assert info["is_success"] is False
        out = [bool(env.step(np.zeros(1, np.float32))[4]["is_success"]) for _ in goals]
    return out


def test_a_door_once_open_has_been_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    assert labels(Door, [False, True, False], monkeypatch) == [False, True, True]


def test_a_pen_must_be_right_for_twenty_steps_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    goals = [True] * 19 + [False] * 5 + [True, False]
    assert labels(Pen, goals, monkeypatch) == [False] * 24 + [True, True]


def test_lift_succeeds_at_four_centimetres_and_stays_a_success() -> None:
    env = cast("RobosuiteEnv", make_env("robosuite/Lift-v1", terminate_on_success=True).unwrapped)
    env.reset(seed=0)
    qpos, still = env._data.qpos, np.zeros(7, np.float32)
    for height, success in ((0.83, False), (0.86, True), (0.83, True)):  # the table top is at 0.8 m
        qpos[-5], env._data.qvel[:] = height, 0.0
        _, reward, terminated, truncated, info = env.step(still)
        assert info["is_success"] is success
        assert terminated is success
        assert not truncated
    assert reward == 0.0  # the label stays, the reward tells of this step
    env.close()

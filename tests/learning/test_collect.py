"""Collecting before anything was learned."""

import numpy as np
import pytest

from robot_rl.collect import Collector, uniform
from robot_rl.envs import env_spec, make_env
from robot_rl.spec import Array


def test_uniform_actions_fill_the_bounds_and_all_choices_alike() -> None:
    noise = np.random.default_rng(0).standard_normal((4000, 1)).astype(np.float32)
    pendulum = env_spec(make_env("Pendulum-v1"))
    torque = np.array([uniform(pendulum)(noise[0], one)[0] for one in noise])
    assert (np.abs(torque) <= 2).all()
    assert np.histogram(torque, bins=4, range=(-2, 2))[0] / 4000 == pytest.approx([0.25] * 4, abs=0.03)
    acrobot = env_spec(make_env("Acrobot-v1"))
    choices = np.array([uniform(acrobot)(noise[0], one)[0] for one in noise])
    assert np.unique(choices, return_counts=True)[1] / 4000 == pytest.approx([1 / 3] * 3, abs=0.03)
    assert uniform(acrobot)(noise[0], np.float32([9.0])) == 2.0  # the far end of the normal is still a choice


def test_weights_that_were_never_trained_are_not_asked() -> None:
    env = make_env("Pendulum-v1")
    spec = env_spec(env)

    def still(_obs: Array, _noise: Array) -> Array:
        return np.zeros(1, np.float32)

    taken: dict[tuple[bool, int], bool] = {}
    for untrained in (True, False):
        collector = Collector(env, spec, seed=0, untrained=untrained)
        for version in (0, 1):
            rows = [float(collector.step(still, version)[0]["action"][0, 0]) for _ in range(5)]
            taken[untrained, version] = any(rows)
    assert taken == {(True, 0): True, (True, 1): False, (False, 0): False, (False, 1): False}

"""The DeepMind Control Suite's planar bodies in one layout."""

import sys
from typing import Any

import numpy as np
import pytest

from robot_rl.envs import env_spec, make_env
from robot_rl.errors import EnvError
from sim.dmc_env import DMCEnv
from sim.dmc_tasks import BODIES, JOINTS, TASKS, env_id_of
from sim.locomotion_logs import normalised_score
from sim.named import Named

suite: Any = pytest.importorskip("dm_control.suite")
TRIO = ["cheetah-run", "hopper-stand", "walker-walk"]


def test_all_tasks_look_alike() -> None:
    specs = [env_spec(make_env(env_id_of(task))) for task in TASKS]
    for spec in specs[1:]:
        specs[0].require_match(spec, "one", "other", "")
    assert (specs[0].obs_dim, specs[0].action_dim) == (20, 7)


@pytest.mark.parametrize("task", TRIO)
def test_each_joint_is_seen_in_its_place(task: str) -> None:
    env = DMCEnv(task)
    env.action_space.seed(0)
    env.reset(seed=1)
    obs = env.step(env.action_space.sample())[0]
    seen, physics = Named(env.robot_spec, obs), env._physics
    for i, name in enumerate(BODIES[task.partition("-")[0]]):
        position, speed = seen.entry("joint_pos")[i], seen.entry("joint_vel")[i]
        if not name:
            assert position == speed == 0.0
            continue
        assert position == pytest.approx(physics.named.data.qpos[name].item(), abs=1e-5)
        assert speed == pytest.approx(physics.named.data.qvel[name].item(), abs=1e-5)
    assert seen.entry("torso_height")[0] == pytest.approx(float(physics.named.data.xpos["torso", "z"]), abs=1e-5)
    assert np.hypot(*seen.entry("torso_pitch")) == pytest.approx(1.0, abs=1e-5)
    across, up = (physics.named.data.qvel[name].item() for name in ("rootx", "rootz"))
    np.testing.assert_allclose(seen.entry("torso_velocity"), [across, up], atol=1e-5)


@pytest.mark.parametrize("task", TRIO)
def test_each_joint_is_driven_by_its_action_and_others_are_ignored(task: str) -> None:
    env = DMCEnv(task)
    env.reset(seed=1)
    action = np.linspace(-0.6, 0.6, len(JOINTS), dtype=np.float32)
    env.step(action)
    for name, wanted in zip(BODIES[task.partition("-")[0]], action, strict=True):
        if name:
            assert float(env._physics.named.data.ctrl[name]) == pytest.approx(float(wanted), abs=1e-6)


@pytest.mark.parametrize("task", TRIO)
def test_an_episode_takes_as_long_and_is_worth_as_much_as_the_suites(task: str) -> None:
    env = make_env(env_id_of(task))
    raw = suite.load(*task.split("-"))
    assert TASKS[task] / env_spec(env).rate_hz == pytest.approx(1000 * raw.control_timestep())
    env.reset(seed=0)
    inner: Any = env.unwrapped
    told = env.step(np.zeros(7, np.float32))
    assert told[1] * TASKS[task] == pytest.approx(1000 * inner._env.task.get_reward(inner._physics))
    steps = 1
    while not told[3]:
        assert not told[2]
        told = env.step(np.zeros(7, np.float32))
        steps += 1
    assert steps == TASKS[task]
    assert normalised_score(env_id_of(task), 1000.0) == 100.0


def test_without_dm_control_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dm_control", "dm_control.suite"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EnvError, match=r"pip install -e '\.\[dmc\]'"):
        make_env("dmc/walker-walk-v1")


def test_what_is_not_offered_is_refused() -> None:
    with pytest.raises(EnvError, match="no task 'dog-run' in the shared layout; there are: cheetah-run"):
        DMCEnv("dog-run")
    with pytest.raises(EnvError, match="render_mode 'human' is not offered"):
        DMCEnv("walker-walk", render_mode="human")
    with pytest.raises(EnvError, match="dmc/walker-walk-v1"):
        make_env("dmc/walker-walks-v1")

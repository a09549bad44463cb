from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import sim.register
from robot_rl.envs import Env, env_spec, make_env
from robot_rl.errors import EnvError

ROBOSUITE = [f"robosuite/{t}-v1" for t in ("Lift", "Door", "NutAssemblySquare", "PickPlaceCan")]
ADROIT = ["AdroitHandDoor-v1", "AdroitHandPen-v1"]
LOCOMOTION = ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"]
DMC = [f"dmc/{t}-v1" for t in ("cheetah-run", "hopper-stand", "walker-walk")]
ALL = ROBOSUITE + ADROIT + LOCOMOTION + DMC

Make = Callable[[str], Env]


@pytest.mark.parametrize("env_id", ALL)
# Gymnasium's advice: our specs come as a wrapper; positions and velocities have no bounds.
@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version.*")
@pytest.mark.filterwarnings("ignore:.*Box observation space (minimum|maximum) value is -?infinity.*")
def test_gymnasium_accepts_the_environment(made: Make, env_id: str) -> None:
    check_env(made(env_id), skip_render_check=True, skip_close_check=True)


@pytest.mark.parametrize("env_id", ALL)
def test_spec_has_the_sizes_and_bounds_of_the_spaces(made: Make, env_id: str) -> None:
    env = made(env_id)
    spec = env_spec(env)
    assert (spec.obs_dim,) == env.observation_space.shape
    assert isinstance(env.action_space, gym.spaces.Box)
    np.testing.assert_array_equal(spec.action_low, env.action_space.low)
    np.testing.assert_array_equal(spec.action_high, env.action_space.high)
    assert len(set(spec.obs_names)) == spec.obs_dim
    assert len(set(spec.action_names)) == spec.action_dim
    assert spec.env_id == env_id
    assert spec.rate_hz == pytest.approx(env.metadata["render_fps"], rel=0.02)
    assert all(e.unit for e in spec.observation)


@pytest.mark.parametrize("env_id", ALL)
def test_a_seed_fixes_the_episode_bit_for_bit(made: Make, env_id: str) -> None:
    env = made(env_id)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (8, env_spec(env).action_dim)).astype(np.float32)

    def episode(seed: int) -> np.ndarray:
        first, _ = env.reset(seed=seed)
        steps = [env.step(a) for a in actions]
        return np.array([np.r_[first, 0.0], *(np.r_[s[0], s[1]] for s in steps)])

    one, other, again = episode(3), episode(4), episode(3)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("env_id", ROBOSUITE + ADROIT)
def test_every_step_tells_success(made: Make, env_id: str) -> None:
    env = made(env_id)
    _, info = env.reset(seed=0)
    assert info["is_success"] is False
    *_, info = env.step(np.zeros(env_spec(env).action_dim, np.float32))
    assert info["is_success"] is False


def test_specs_of_different_tasks_do_not_match(made: Make) -> None:
    lift, door = env_spec(made("robosuite/Lift-v1")), env_spec(made("robosuite/Door-v1"))
    assert lift.differences(door, "lift", "door")


def test_joint_names_come_from_the_model(made: Make) -> None:
    spec = env_spec(made("AdroitHandDoor-v1"))
    assert spec.observation[0].names[:3] == ("ARRx", "ARRy", "ARRz")
    assert spec.action[0].names[0] == "A_ARTz"
    spec = env_spec(made("Hopper-v5"))
    assert spec.obs_names[0] == "rootz_position"
    assert spec.action[0].names == ("thigh_joint", "leg_joint", "foot_joint")


def test_sparse_reward_of_adroit_is_upstreams() -> None:
    env = make_env("AdroitHandDoor-v1", reward_type="sparse")
    env.action_space.seed(0)
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[1] == pytest.approx(-0.1)


def test_registering_again_changes_nothing() -> None:
    before = dict(gym.registry)
    sim.register.register_envs()
    assert dict(gym.registry) == before


def test_ours_replace_what_gymnasium_robotics_registers() -> None:
    script = (
        "import gymnasium, gymnasium_robotics\n"
        "from robot_rl.envs import env_spec, make_env\n"
        "env = make_env('AdroitHandPen-v1')\n"
        "print(env_spec(env).observation[0].name, env.reset(seed=0)[0].dtype)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["hand_joints", "float32"]


def test_making_an_environment_is_silent() -> None:
    script = (
        "from robot_rl.envs import make_env\n"
        "make_env('AdroitHandDoor-v1').reset()\n"
        "make_env('robosuite/Lift-v1').reset()\n"
        "make_env('dmc/walker-walk-v1').reset()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


def test_registration_imports_no_simulator() -> None:
    script = (
        "import sys, sim.register\n"
        "print([m for m in ('mujoco', 'robosuite', 'gymnasium_robotics', 'dm_control', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_misspelt_id_names_the_right_one() -> None:
    with pytest.raises(EnvError, match="robosuite/Lift-v1"):
        make_env("robosuite/Lyft-v1")


def test_missing_robosuite_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "robosuite", None)
    with pytest.raises(EnvError, match=r"pip install -e '\.\[robosuite\]'"):
        make_env("robosuite/Lift-v1")


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "CartPole-v1", "Acrobot-v1"])
def test_an_environment_tells_from_an_observation_where_its_task_ends(env_id: str) -> None:
    env = make_env(env_id)
    observations, ended = [], []
    rng = np.random.default_rng(0)
    for episode in range(3):
        obs, _ = env.reset(seed=episode)
        over = False
        while not over:
            action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
            if env_id == "Acrobot-v1":  # pumped: at random it never gets there
                action = np.asarray([1 + np.sign(obs[5])], np.float32)
            obs, _, terminated, truncated, _ = env.step(action)
            observations.append(obs)
            ended.append(terminated)
            over = terminated or truncated
    told = env.get_wrapper_attr("task_ends")(np.asarray(observations, np.float32))
    assert told.tolist() == ended
    assert any(ended) == (env_id != "HalfCheetah-v5")

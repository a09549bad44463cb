from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from robot_rl.envs import Env, env_spec, make_env
from robot_rl.errors import EnvError
from robot_rl.experts import known_experts, make_expert
from sim.demonstrate import demonstrate
from sim.metaworld_spec import build_spec
from sim.metaworld_tasks import TASKS, env_id_of
from sim.register import register_envs

SOURCES = ["door-close", "faucet-open", "handle-press", "plate-slide", "reach-wall", "window-close"]
TARGETS = ["door-lock", "drawer-open", "push"]
NINE = SOURCES + TARGETS

Make = Callable[[str], Env]
needs_metaworld = pytest.mark.skipif(
    importlib.util.find_spec("metaworld") is None, reason="Meta-World is not installed: pip install -e '.[metaworld]'"
)


def test_every_task_has_an_id_and_an_expert() -> None:
    register_envs()
    ids = {env_id_of(task) for task in TASKS}
    assert len(ids) == 50
    assert ids <= set(gym.registry)
    assert ids <= set(known_experts())
    assert gym.registry["metaworld/push-v3"].max_episode_steps == 100


def test_the_spec_names_48_numbers() -> None:
    spec = build_spec(env_id="metaworld/push-v3", rate_hz=40)
    assert (spec.obs_dim, spec.action_dim) == (48, 4)
    assert len(set(spec.obs_names)) == 48
    assert spec.slice_of("object1_pos") == slice(4, 7)
    assert spec.slice_of("previous_hand_pos") == slice(18, 21)
    assert spec.slice_of("goal_pos") == slice(36, 39)
    assert spec.slice_of("goal_from_hand") == slice(45, 48)


def test_without_metaworld_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("metaworld", "metaworld.env_dict", "metaworld.policies"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EnvError, match=r"pip install -e '\.\[metaworld\]'"):
        make_env("metaworld/push-v3")
    with pytest.raises(EnvError, match=r"pip install -e '\.\[metaworld\]'"):
        make_expert("metaworld/push-v3", build_spec(env_id="metaworld/push-v3", rate_hz=40))


def test_a_misspelt_task_names_the_right_one() -> None:
    with pytest.raises(EnvError, match="metaworld/door-close-v3"):
        make_env("metaworld/door-closed-v3")


@needs_metaworld
def test_the_names_are_metaworlds() -> None:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    from metaworld.policies import ENV_POLICY_MAP

    ours = {f"{task}-v3" for task in TASKS}
    assert ours == set(ALL_V3_ENVIRONMENTS) == set(ENV_POLICY_MAP)


@needs_metaworld
@pytest.mark.filterwarnings("ignore:.*Box observation space (minimum|maximum) value is -?infinity.*")
def test_gymnasium_accepts_the_environment(made: Make) -> None:
    env = made("metaworld/door-lock-v3")
    check_env(env.unwrapped, skip_render_check=True, skip_close_check=True)


@needs_metaworld
def test_all_tasks_speak_the_same(made: Make) -> None:
    specs = [env_spec(made(env_id_of(task))) for task in NINE]
    assert {replace(spec, env_id="") for spec in specs} == {replace(specs[0], env_id="")}
    assert [spec.env_id for spec in specs] == [env_id_of(task) for task in NINE]
    assert specs[0].rate_hz == pytest.approx(40)
    specs[0].require_match(specs[-1], "one", "other", "")


@needs_metaworld
@pytest.mark.parametrize("task", [pytest.param(t, marks=[] if t in NINE else pytest.mark.slow) for t in TASKS])
def test_a_seed_fixes_the_episode_bit_for_bit(made: Make, task: str) -> None:
    env = made(env_id_of(task))
    actions = np.random.default_rng(0).uniform(-1, 1, (8, 4)).astype(np.float32)

    def episode(seed: int) -> np.ndarray:
        first, _ = env.reset(seed=seed)
        steps = [env.step(a) for a in actions]
        return np.array([np.r_[first, 0.0], *(np.r_[s[0], s[1]] for s in steps)])

    one, other, again = episode(3), episode(4), episode(3)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one[0], other[0])  # goal or objects
    env.reset(seed=3)
    assert not np.array_equal(env.reset()[0], one[0])  # without a seed the next scene is another one


@needs_metaworld
def test_what_the_numbers_are(made: Make) -> None:
    env = made("metaworld/reach-wall-v3")
    spec = env_spec(env)
    first, _ = env.reset(seed=0)

    def seen(obs: np.ndarray, name: str) -> np.ndarray:
        return obs[spec.slice_of(name)]

    np.testing.assert_array_equal(first[:18], first[18:36])  # nothing came before
    np.testing.assert_array_equal(seen(first, "object2_pos"), np.zeros(3))
    low, high = [-0.05, 0.85, 0.05], [0.05, 0.9, 0.3]  # where this task draws its goals
    assert np.all(low <= seen(first, "goal_pos"))
    assert np.all(seen(first, "goal_pos") <= high)
    obs = first
    for _ in range(10):
        obs, *_ = env.step(np.array([1, 0, 0, 1], np.float32))
    # Ten actions pull the hand 10 x 2 x 0.01 m to the side; it lags behind, and its twin of 12.5 ms ago more so.
    moved = (seen(obs, "hand_pos") - seen(first, "hand_pos"))[0]
    assert 0.1 < moved < 0.2
    assert 0 < (seen(obs, "hand_pos") - seen(obs, "previous_hand_pos"))[0] < 0.015
    assert seen(obs, "gripper_opening") < seen(first, "gripper_opening") - 0.1  # 1 closes
    np.testing.assert_array_equal(seen(obs, "goal_pos"), seen(first, "goal_pos"))
    for name in ("object1", "goal"):
        way = seen(obs, f"{name}_pos") - seen(obs, "hand_pos")
        np.testing.assert_allclose(seen(obs, f"{name}_from_hand"), way, atol=1e-6)
    np.testing.assert_array_equal(seen(obs, "object2_from_hand"), np.zeros(3))  # there is none


@needs_metaworld
def test_an_action_is_two_simulator_steps_with_their_rewards_summed(made: Make) -> None:
    twice, once = made("metaworld/drawer-open-v3"), make_env("metaworld/drawer-open-v3", action_repeat=1)
    np.testing.assert_array_equal(twice.reset(seed=5)[0], once.reset(seed=5)[0])
    assert env_spec(once).rate_hz == pytest.approx(80)
    for action in np.random.default_rng(1).uniform(-1, 1, (5, 4)):
        _, first, *_ = once.step(action)
        obs, second, *_ = once.step(action)
        seen, reward, *_ = twice.step(action)
        np.testing.assert_array_equal(seen, obs)
        assert reward == float(first) + float(second)


@needs_metaworld
def test_an_episode_may_be_longer_than_metaworlds_500_steps() -> None:
    env = make_env("metaworld/handle-press-v3", action_repeat=10, max_episode_steps=52)
    env.reset(seed=0)
    ends = [env.step(np.zeros(4, np.float32))[2:4] for _ in range(52)]
    assert ends == [(False, False)] * 51 + [(False, True)]


@needs_metaworld
@pytest.mark.parametrize("task", NINE)
def test_the_expert_succeeds(made: Make, task: str) -> None:
    env = made(env_id_of(task))
    expert = make_expert(env_id_of(task), env_spec(env), noise=0.1)
    episode = demonstrate(env, env_spec(env), expert, seed=7)
    assert episode.success
    assert len(episode) < 100
    assert episode.truncated
    assert not episode.terminated
    assert episode.rewards[-1] > episode.rewards[0]
    assert episode.rewards.max() <= 20


@needs_metaworld
def test_success_is_kept_until_the_reset(made: Make) -> None:
    env = made("metaworld/reach-wall-v3")
    expert = make_expert("metaworld/reach-wall-v3", env_spec(env), noise=0.0)
    episode = demonstrate(env, env_spec(env), expert, seed=7, after_success=0)
    assert episode.success
    info: dict[str, object] = {}
    for _ in range(15):
        _, reward, *_, info = env.step(np.array([0, -1, 0, 0], np.float32))
        assert info["is_success"] is True
    assert reward < episode.rewards[-1] / 2  # the hand has long left the goal
    _, info = env.reset(seed=7)
    assert info["is_success"] is False


@needs_metaworld
def test_the_picture_is_upright() -> None:
    env = make_env("metaworld/door-lock-v3", render_mode="rgb_array", width=120, height=80)
    env.reset(seed=0)
    try:
        picture = np.asarray(env.render())
    except EnvError as error:
        pytest.skip(f"no OpenGL here: {error}")
    assert picture.shape == (80, 120, 3)
    # Above: the empty background; below: table, floor and the arm's foot.
    assert picture[:10].std() < 10
    assert picture[-10:].std() > 30
    env.close()


@needs_metaworld
def test_an_action_is_held_for_a_step_at_least() -> None:
    with pytest.raises(EnvError, match="action_repeat is 0"):
        make_env("metaworld/push-v3", action_repeat=0)


@needs_metaworld
def test_making_an_environment_is_silent() -> None:
    script = "from robot_rl.envs import make_env\nenv = make_env('metaworld/push-v3')\nenv.reset(seed=0)\nenv.close()\n"
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""

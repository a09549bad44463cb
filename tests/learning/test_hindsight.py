"""Episodes told again with the goal that they reached: which, with what in them, and how they enter the batches."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robot_rl.algorithms.registry import build_agent
from robot_rl.algorithms.sac import SACConfig
from robot_rl.data.hindsight import Hindsight
from robot_rl.data.stats import observation_stats
from robot_rl.data.transition import Rows, transition_dtype
from robot_rl.errors import ConfigError
from robot_rl.finetune import finetune
from robot_rl.online import OnlineConfig, OnlineLearner
from robot_rl.online_run import FinetuneConfig, OnlineRun
from robot_rl.spec import Array
from tests.learning.made import make_episodes, make_spec
from tests.learning.test_finetune import assert_same_run

PLACE, GOAL = 0, 1  # columns of the made observations


def with_goal(obs: Array, reached: Array) -> Array:
    obs = obs.copy()
    obs[:, GOAL] = reached[PLACE]
    return obs


def reward(obs: Array) -> Array:
    return np.where(obs[:, PLACE] == obs[:, GOAL], 0.0, -1.0).astype(np.float32)


def walk(places: list[float], goal: float, mark: float) -> Rows:
    """An episode along `places`; `mark` tells it from others."""
    found = np.zeros(len(places) - 1, transition_dtype(5, 2))
    for name, seen in (("obs", places[:-1]), ("next_obs", places[1:])):
        found[name][:, PLACE], found[name][:, GOAL], found[name][:, 2] = seen, goal, mark
    found["action"] = mark
    found["reward"] = reward(found["next_obs"])
    found["starts"][0] = found["truncated"][-1] = 1
    return found


def hindsight(**more: Any) -> Hindsight:
    options: dict[str, Any] = {"capacity": 100, "with_goal": with_goal, "reward": reward} | more
    return Hindsight(make_spec(), device="cpu", **options)


def one_by_one(*pieces: Rows) -> Iterator[Rows]:
    """As the collector gives them: one buffer that each step overwrites."""
    buffer = np.zeros(1, pieces[0].dtype)
    for rows in pieces:
        for row in rows:
            buffer[0] = row
            yield buffer


def test_an_episode_is_told_again_with_the_goal_that_it_reached() -> None:
    told = hindsight()
    for row in one_by_one(walk([0, 1, 3], goal=9, mark=0.5)):
        told.take(row)
    obs, action, rewards, mask, next_obs, _ = told.replay.transitions()
    assert obs[:, :3].tolist() == [[0, 3, 0.5], [1, 3, 0.5]]
    assert next_obs[:, :3].tolist() == [[1, 3, 0.5], [3, 3, 0.5]]
    assert rewards.tolist() == [-1, 0]
    assert mask.tolist() == [1, 1]
    assert action.unique().tolist() == [0.5]


def test_nothing_is_told_of_an_episode_that_runs_or_whose_beginning_is_unknown() -> None:
    told, episode = hindsight(), walk([0, 1, 3], goal=9, mark=0.5)
    told.take(episode[:1])
    assert len(told.replay) == 0
    told.take(walk([5, 6, 7, 8], goal=9, mark=0.7)[1:])
    assert len(told.replay) == 0
    told.take(episode[1:])
    assert len(told.replay) == 2


def test_pieces_of_several_actors_find_together() -> None:
    told = hindsight()
    one, two = walk([0, 1, 2, 3], goal=9, mark=0.5), walk([0, 1, 2, 4], goal=8, mark=0.7)
    told.take(np.concatenate([one[:2], two[:1]]))
    told.take(np.concatenate([one[2:], two[1:]]))
    found = told.replay.transitions()
    for mark, end in ((0.5, 3.0), (0.7, 4.0)):
        mine = found.action[:, 0] == torch.tensor(mark)
        assert found.obs[mine, PLACE].tolist() == [0, 1, 2]
        assert found.obs[mine, GOAL].tolist() == [end] * 3


def test_an_episode_that_meets_no_goal_is_left_out() -> None:
    told = hindsight(reward=lambda obs: np.full(len(obs), -0.2, np.float32))
    told.take(walk([0, 1, 3], goal=9, mark=0.5))
    assert len(told.replay) == 0


def test_batches_hold_the_share_asked_for() -> None:
    cfg = SACConfig(hidden=(8,), batch_size=16, critics=2)
    agent = build_agent(cfg, make_spec(), observation_stats(make_episodes()))
    config = OnlineConfig(offline_share=0.0, hindsight=0.25)
    one = OnlineLearner(agent, None, config, 0, hindsight())
    one.take(walk([0, 1, 3], goal=9, mark=0.5))
    goals = one._source.sample(16, torch.Generator()).obs[:, GOAL]
    assert goals.tolist() == [3.0] * 4 + [9.0] * 12


# In an environment


def run(out: Path, **more: Any) -> FinetuneConfig:
    options: dict[str, Any] = {
        "env": "VirtualArm-v1", "episode_steps": 10, "steps": 40, "warmup": 10, "eval_every": 20, "eval_episodes": 1,
        "checkpoint_every": 10, "log_every": 10, "device": "cpu", "reward": "progress", "hindsight": 0.5,
        "agent": SACConfig(hidden=(16,), batch_size=8, critics=2),
    }  # fmt: skip
    return FinetuneConfig(algorithm="sac", out=out, **(options | more))


def test_a_resumed_run_tells_the_same_again(tmp_path: Path) -> None:
    finetune(run(tmp_path / "straight"), quiet=True)
    finetune(run(tmp_path / "halves", steps=20), quiet=True)
    finetune(run(tmp_path / "halves", resume=True), quiet=True)
    assert_same_run(tmp_path / "straight", tmp_path / "halves")
    again = OnlineRun(run(tmp_path / "halves", resume=True))
    told = again.learner._hindsight
    again.close()
    assert told is not None
    assert len(told.replay) == 40


def test_goals_that_cannot_be_changed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--reward goal or progress"):
        finetune(run(tmp_path / "run", env="Pendulum-v1", reward="logged"), quiet=True)
    with pytest.raises(ConfigError, match=r"--hindsight is 1.5"):
        run(tmp_path / "run", hindsight=1.5)
    pytest.importorskip("gymnasium_robotics", reason="the extra adroit is not installed")
    with pytest.raises(ConfigError, match=r"goal varies.*there is 'AdroitHandDoor-v1'"):
        finetune(run(tmp_path / "run", env="AdroitHandDoor-v1"), quiet=True)

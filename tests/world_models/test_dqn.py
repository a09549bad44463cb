"""Discrete actions: an index travels like any other action, and double DQN learns with and without a model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.algorithms.dqn import DQN, DQNConfig, GreedyActor
from robot_rl.algorithms.registry import build_agent
from robot_rl.algorithms.td3_bc import TD3BCConfig
from robot_rl.checkpoint import load_policy
from robot_rl.cli import main
from robot_rl.data.replay import Batch
from robot_rl.data.stats import ObservationStats
from robot_rl.envs import env_spec, make_env
from robot_rl.errors import ConfigError
from robot_rl.evaluate import act_with, rollout

STATS = ObservationStats(np.zeros(4, np.float32), np.ones(4, np.float32))


def test_an_index_is_an_action_with_bounds() -> None:
    env = make_env("Acrobot-v1")
    spec = env_spec(env)
    assert (spec.control, spec.action_dim, float(spec.action_low[0]), float(spec.action_high[0])) == (
        "discrete", 1, 0.0, 2.0,
    )  # fmt: skip
    env.reset(seed=0)
    env.step(np.asarray([2.0], np.float32))
    with pytest.raises(ConfigError, match="use dqn"):
        build_agent(TD3BCConfig(), spec, ObservationStats(np.zeros(6, np.float32), np.ones(6, np.float32)))


def test_exploration_is_random_as_often_as_asked_and_greedy_without_noise() -> None:
    actor = GreedyActor(4, 3, (8,), exploration=0.3)
    with torch.no_grad():
        actor.net[-1].bias[1] += 100.0  # the greedy action is 1, in [-1, 1]: 0
    obs = torch.zeros(20_000, 4)
    assert actor.explore(obs, torch.zeros(20_000, 1)).unique().tolist() == [0.0]
    drawn = actor.explore(obs, torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0)))
    shares = [(drawn == value).float().mean().item() for value in (-1.0, 0.0, 1.0)]
    assert shares == pytest.approx([0.1, 0.8, 0.1], abs=0.01)
    assert actor.to_index(actor.to_unit(torch.tensor([0, 1, 2]))).tolist() == [0, 1, 2]


def test_the_target_takes_the_online_networks_choice_at_the_targets_value() -> None:
    agent = DQN(DQNConfig(hidden=(4,), discount=0.5), env_spec(make_env("CartPole-v1")), STATS)
    for net in (agent.actor.net, agent.target.net):
        for parameter in net.parameters():
            torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        agent.actor.net[-1].bias.copy_(torch.tensor([1.0, 2.0]))  # chooses 1
        agent.target.net[-1].bias.copy_(torch.tensor([9.0, 4.0]))  # values it at 4
    batch = Batch(
        torch.zeros(2, 4), torch.tensor([[-1.0], [1.0]]), torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]),
        torch.zeros(2, 4), torch.ones(2),
    )  # fmt: skip
    metrics = agent.learn(batch)  # targets 1 + 0.5 * 4 = 3 and 1; Q is 1 and 2
    assert metrics["critic/loss"].item() == pytest.approx(((2 - 0.5) + 0.5) / 2)
    assert metrics["critic/q"].item() == pytest.approx(1.5)


@pytest.mark.slow
def test_cartpole_from_random_logs_with_and_without_a_world_model(tmp_path: Path) -> None:
    words = ["locomotion", "--plan.env", "CartPole-v1", "--qualities", "random", "--transitions", "5000"]
    assert main([*words, "--out", str(tmp_path / "logs")]) == 0
    data = ["--data", str(tmp_path / "logs" / "random")]
    assert main(["world-model", "ensemble", *data, "--out", str(tmp_path / "model"), "--model.epochs", "30"]) == 0
    for name, more in {
        "without": [],
        "with": ["--world-model", str(tmp_path / "model"), "--augment.mode", "consistent", "--augment.force"],
    }.items():
        run = ["pretrain", "dqn", *data, "--out", str(tmp_path / name), "--steps", "3000", "--eval-every", "0"]
        assert main([*run, "--agent.cql-weight", "0.1", "--eval-episodes", "3", *more]) == 0
        policy = load_policy(tmp_path / name)
        found = rollout(make_env("CartPole-v1"), act_with(policy.module), episodes=5, seed=1)
        assert found.mean_return > 100  # random: about 20

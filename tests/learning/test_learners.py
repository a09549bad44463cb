"""Every learner on a problem whose answer is known."""

import numpy as np
import pytest
import torch

from robot_rl.algorithms.awac import AWACConfig
from robot_rl.algorithms.bc import BCConfig
from robot_rl.algorithms.iql import IQLConfig
from robot_rl.algorithms.registry import AgentConfig, build_agent
from robot_rl.algorithms.sac import SACConfig
from robot_rl.algorithms.td3_bc import TD3BCConfig
from robot_rl.data.episode import Episode
from robot_rl.data.replay import Replay
from robot_rl.data.stats import observation_stats
from robot_rl.spec import Entry, Spec, vector

ONE_STEP = Spec((vector("observation", 2),), (Entry("action", ("x",), low=(-1.0,), high=(1.0,)),))


def bandit() -> list[Episode]:
    """One-step episodes: uniform actions, reward -(a - 0.6)^2. Cloning gives 0, the best is 0.6."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, 500)
    return [
        Episode(
            observations=rng.normal(size=(2, 2)),
            actions=[[a]],
            rewards=[-((a - 0.6) ** 2) * 10],
            terminated=True,
            truncated=False,
        )
        for a in actions
    ]


def mean_action(cfg: AgentConfig, updates: int) -> float:
    torch.manual_seed(0)
    episodes = bandit()
    replay = Replay.of(ONE_STEP, episodes)
    agent = build_agent(cfg, ONE_STEP, observation_stats(episodes))
    generator = torch.Generator().manual_seed(0)
    for _ in range(updates):
        agent.update(replay.sample(cfg.batch_size, generator))
    return agent.act(torch.randn(256, 2, generator=generator)).mean().item()


def test_cloning_gives_the_mean_of_the_data() -> None:
    assert mean_action(BCConfig(hidden=(32,), lr=3e-3, batch_size=128), 400) == pytest.approx(0.0, abs=0.12)


@pytest.mark.parametrize(
    "cfg",
    [
        TD3BCConfig(hidden=(32, 32), lr=1e-3, batch_size=128, alpha=1.0),
        AWACConfig(actor_hidden=(32,), critic_hidden=(32, 32), lr=3e-3, batch_size=128, temperature=0.3),
        AWACConfig(
            actor_hidden=(32,),
            critic_hidden=(32, 32),
            lr=3e-3,
            batch_size=128,
            temperature=0.3,
            weighting="exp",
        ),
        IQLConfig(hidden=(32, 32), lr=3e-3, batch_size=128, expectile=0.7, beta=3.0),
        SACConfig(hidden=(32, 32), lr=3e-3, batch_size=128, critics=3, bc_weight=0.3, bc_filter=True, alpha=0.01),
    ],
    ids=["td3-bc", "awac-softmax", "awac-exp", "iql", "sac"],
)
def test_reward_pulls_the_policy_to_the_better_actions(cfg: AgentConfig) -> None:
    # TD3+BC first overshoots, on a critic that is still a slope, and comes back
    updates = 1500 if isinstance(cfg, TD3BCConfig) else 500
    assert mean_action(cfg, updates) == pytest.approx(0.6, abs=0.25)

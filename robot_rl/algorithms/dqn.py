"""Double DQN (van Hasselt et al. 2016, arXiv 1509.06461) for tasks whose action is one index.

    y    = r + gamma (1 - d) Q'(s', argmax_a Q(s', a))
    L(Q) = E huber(Q(s, a) - y) + cql_weight E [log sum_a exp Q(s, a) - Q(s, a_logged)]

The action travels like any other: one number from 0 to n - 1, in logs, replay and policy. The second term
is CQL's (Kumar et al. 2020, arXiv 2006.04779): offline it keeps actions that were never logged from being
overrated; 0 is plain double DQN. Targets follow by averaging instead of copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from robot_rl.algorithms.agent import Agent, Metrics
from robot_rl.algorithms.steps import adam, descend, frozen_copy, polyak
from robot_rl.data.replay import Batch
from robot_rl.data.stats import ObservationStats
from robot_rl.nets.actor import Actor
from robot_rl.nets.mlp import mlp
from robot_rl.spec import Spec


@dataclass(frozen=True, kw_only=True)
class DQNConfig:
    """Double DQN."""

    discount: float = 0.99  # per control step, in [0, 1)
    tau: float = 0.005  # target averaging per update
    hidden: tuple[int, ...] = (256, 256)  # widths of hidden layers
    lr: float = 3e-4  # learning rate
    batch_size: int = 256  # transitions per gradient step
    cql_weight: float = 0.0  # weight of the conservative term; 0.1 to 1 offline
    exploration: float = 0.1  # chance of a random action when collecting


class GreedyActor(Actor):
    """The action with the highest value, (B, S) -> (B, 1) in [-1, 1], the range of indices 0 to n - 1.

    Args:
        obs_dim: S.
        choices: Number of actions n.
        hidden: Widths of the hidden layers.
        exploration: Chance of a random action when exploring.
    """

    def __init__(self, obs_dim: int, choices: int, hidden: Sequence[int], *, exploration: float) -> None:
        super().__init__()
        self.net = mlp(obs_dim, hidden, choices)
        self.choices = choices
        self.exploration = exploration

    def forward(self, obs: Tensor) -> Tensor:
        """The greedy action, (B, 1)."""
        return self.to_unit(self.net(obs).argmax(-1))

    def explore(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Greedy, or random where the noise, (B, 1), lies in its own lowest `exploration` quantile, (B, 1)."""
        chance = torch.special.ndtr(noise[:, 0])  # uniform in [0, 1]; 0.5 at zero noise
        drawn = (chance / max(self.exploration, 1e-9) * self.choices).long().clamp(0, self.choices - 1)
        return torch.where((chance < self.exploration)[:, None], self.to_unit(drawn), self(obs))

    def to_unit(self, index: Tensor) -> Tensor:
        """Index (B,) -> action in [-1, 1], (B, 1)."""
        return (2 * index / (self.choices - 1) - 1)[:, None].to(torch.float32)

    def to_index(self, action: Tensor) -> Tensor:
        """Inverse of `to_unit`, (B, 1) -> (B,)."""
        return ((action[:, 0] + 1) / 2 * (self.choices - 1)).round().long()


class DQN(Agent):
    """Double DQN; its actor is its value network."""

    def __init__(
        self, cfg: DQNConfig, spec: Spec, stats: ObservationStats, *, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(spec, stats, seed, device)
        self.cfg = cfg
        self.actor = self._new_actor()
        self.target = self._new_actor()
        frozen_copy(self.target, self.actor)
        self.to(self.device)
        self.optimisers["critic"] = adam(self.actor.parameters(), cfg.lr)

    def learn(self, batch: Batch) -> Metrics:
        """One step of the values and their target."""
        index = self.actor.to_index(batch.action)[:, None]
        with torch.no_grad():
            best = self.actor.net(batch.next_obs).argmax(-1, keepdim=True)
            next_q = self.target.net(batch.next_obs).gather(1, best).squeeze(1)  # (B,)
            wanted = batch.reward + self.cfg.discount * batch.mask * next_q
        values = self.actor.net(batch.obs)  # (B, n)
        q = values.gather(1, index).squeeze(1)
        loss = F.smooth_l1_loss(q, wanted)
        metrics = {"critic/loss": loss.detach(), "critic/q": q.detach().mean()}
        if self.cfg.cql_weight:
            gap = (values.logsumexp(-1) - q).mean()
            loss = loss + self.cfg.cql_weight * gap
            metrics["critic/gap"] = gap.detach()
        descend(self.optimisers["critic"], loss)
        polyak(self.target, self.actor, self.cfg.tau)
        return metrics

    def _new_actor(self) -> GreedyActor:
        choices = int(self.spec.action_high[0] - self.spec.action_low[0]) + 1
        return GreedyActor(self.spec.obs_dim, choices, self.cfg.hidden, exploration=self.cfg.exploration)

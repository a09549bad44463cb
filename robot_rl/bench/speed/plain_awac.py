"""A plain AWAC to measure ours against: one module a network, one Adam each, one loop a target.

Written the way single-file implementations are, with nothing batched or fused: the critics are two
separate networks, the actor is run again wherever its action is needed, and targets are averaged
parameter by parameter. Same algorithm, same shapes, same losses as `robot_rl.algorithms.awac` with the
exp weighting.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from robot_rl.data.replay import Batch


def _net(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class PlainAWAC:
    """The baseline of `robot-rl bench update`."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: tuple[int, ...], lr: float = 3e-4) -> None:
        self.actor = _net(obs_dim, hidden, action_dim)
        self.log_std = nn.Parameter(torch.zeros(action_dim))
        self.critic_1 = _net(obs_dim + action_dim, hidden, 1)
        self.critic_2 = _net(obs_dim + action_dim, hidden, 1)
        self.target_1, self.target_2 = copy.deepcopy(self.critic_1), copy.deepcopy(self.critic_2)
        self.actor_optimiser = torch.optim.Adam([*self.actor.parameters(), self.log_std], lr=lr)
        self.optimiser_1 = torch.optim.Adam(self.critic_1.parameters(), lr=lr)
        self.optimiser_2 = torch.optim.Adam(self.critic_2.parameters(), lr=lr)

    def update(self, batch: Batch) -> None:
        """One critic step, one actor step, one step of the targets."""
        with torch.no_grad():
            next_action = self._policy(batch.next_obs).sample().clamp(-1, 1)
            q_1 = self._q(self.target_1, batch.next_obs, next_action)
            q_2 = self._q(self.target_2, batch.next_obs, next_action)
            target = batch.reward + 0.99 * batch.mask * torch.min(q_1, q_2)
        loss_1 = (self._q(self.critic_1, batch.obs, batch.action) - target).pow(2).mean()
        loss_2 = (self._q(self.critic_2, batch.obs, batch.action) - target).pow(2).mean()
        self.optimiser_1.zero_grad()
        self.optimiser_2.zero_grad()
        (loss_1 + loss_2).backward()
        self.optimiser_1.step()
        self.optimiser_2.step()

        with torch.no_grad():
            own = self._policy(batch.obs).sample().clamp(-1, 1)
            value = torch.min(self._q(self.critic_1, batch.obs, own), self._q(self.critic_2, batch.obs, own))
            q_1 = self._q(self.critic_1, batch.obs, batch.action)
            q_2 = self._q(self.critic_2, batch.obs, batch.action)
            weight = torch.exp((torch.min(q_1, q_2) - value) / 2.0).clamp(max=100.0)
        log_prob = self._policy(batch.obs).log_prob(batch.action).sum(-1)
        self.actor_optimiser.zero_grad()
        (-(weight * log_prob).mean()).backward()
        self.actor_optimiser.step()
        for target_net, net in ((self.target_1, self.critic_1), (self.target_2, self.critic_2)):
            for old, new in zip(target_net.parameters(), net.parameters(), strict=True):
                old.data.copy_(0.995 * old.data + 0.005 * new.data)

    def _policy(self, obs: Tensor) -> Normal:
        return Normal(self.actor(obs), self.log_std.clamp(-6, 0).exp())

    @staticmethod
    def _q(critic: nn.Module, obs: Tensor, action: Tensor) -> Tensor:
        return critic(torch.cat([obs, action], dim=-1)).squeeze(-1)

"""IQL: implicit Q-learning (Kostrikov, Nair and Levine 2021, arXiv 2110.06169).

    L(V)  = E |tau - 1[u < 0]| u^2,  u = min_i Q'_i(s, a) - V(s)     (expectile regression)
    L(Q)  = E (r + gamma (1 - d) V(s') - Q_i(s, a))^2
    L(pi) = -E_D [min(exp(beta u), 100) log pi(a|s)]

The policy is never asked for an action in training, so nothing outside the data is valued.
Ours: no learning-rate schedule, so that the same agent goes on online.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robot_rl.algorithms.agent import Agent, Metrics
from robot_rl.algorithms.steps import adam, descend, frozen_copy, polyak
from robot_rl.data.replay import Batch
from robot_rl.data.stats import ObservationStats
from robot_rl.errors import ConfigError
from robot_rl.nets.actor import GaussianActor
from robot_rl.nets.ensemble import EnsembleCritic
from robot_rl.nets.mlp import ValueNet
from robot_rl.spec import Spec


@dataclass(frozen=True, kw_only=True)
class IQLConfig:
    """Implicit Q-learning."""

    discount: float = 0.99  # per control step, in [0, 1)
    tau: float = 0.005  # target averaging per update
    hidden: tuple[int, ...] = (256, 256)  # widths of hidden layers, all networks
    lr: float = 3e-4  # learning rate, all networks
    weight_decay: float = 0.0  # L2 penalty on the actor
    batch_size: int = 256  # transitions per gradient step
    expectile: float = 0.7  # of the value regression, in (0.5, 1); higher is bolder
    beta: float = 3.0  # inverse temperature of the advantage weights
    max_weight: float = 100.0  # cap of those weights
    critics: int = 2  # ensemble size
    layer_norm: bool = False  # layer norm in the critics
    dropout: float = 0.0  # share of the actor's hidden units silenced in training, in [0, 1)
    ema: float = 0.0  # share kept in the average of actors that acts in the actor's place, such as 0.999; 0 is off
    log_std_bounds: tuple[float, float] = (-5.0, 2.0)  # of the actor's standard deviation

    def __post_init__(self) -> None:
        if not 0 < self.expectile < 1:
            raise ConfigError(f"IQL expectile is {self.expectile}; it must lie in (0, 1).")


class IQL(Agent):
    """Implicit Q-learning."""

    def __init__(
        self, cfg: IQLConfig, spec: Spec, stats: ObservationStats, *, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(spec, stats, seed, device)
        self.cfg = cfg
        self.actor = GaussianActor(
            spec.obs_dim,
            spec.action_dim,
            cfg.hidden,
            log_std=cfg.log_std_bounds,
            squash_mean=True,
            dropout=cfg.dropout,
        )
        self.value = ValueNet(spec.obs_dim, cfg.hidden)
        self.critic = self._new_critic()
        self.target_critic = frozen_copy(self._new_critic(), self.critic)
        self.average_actor(cfg.ema)
        self.to(self.device)
        self.optimisers["actor"] = adam(self.actor.parameters(), cfg.lr, cfg.weight_decay)
        self.optimisers["value"] = adam(self.value.parameters(), cfg.lr)
        self.optimisers["critic"] = adam(self.critic.parameters(), cfg.lr)

    def learn(self, batch: Batch) -> Metrics:
        """One step of value, critics and actor, in that order."""
        with torch.no_grad():
            next_value = self.value(batch.next_obs)  # (B,)
            target_q = self.target_critic(batch.obs, batch.action).amin(0)  # (B,)
        advantage, metrics = self._value_step(batch, target_q)
        loss, more = self._critic_loss(batch, next_value)
        descend(self.optimisers["critic"], loss)
        polyak(self.target_critic, self.critic, self.cfg.tau)
        metrics |= more
        if not self.actor_frozen:
            loss, more = self._actor_loss(batch, advantage)
            descend(self.optimisers["actor"], loss)
            metrics |= more
        return metrics

    def _value_step(self, batch: Batch, target_q: Tensor) -> tuple[Tensor, Metrics]:
        value = self.value(batch.obs)  # (B,)
        advantage = target_q - value
        share = torch.where(advantage > 0, self.cfg.expectile, 1 - self.cfg.expectile)
        loss = (share.detach() * advantage.square()).mean()
        descend(self.optimisers["value"], loss)
        return advantage.detach(), {"value/loss": loss.detach(), "value/v": value.detach().mean()}

    def _critic_loss(self, batch: Batch, next_value: Tensor) -> tuple[Tensor, Metrics]:
        target = batch.reward + self.cfg.discount * batch.mask * next_value
        q = self.critic(batch.obs, batch.action)  # (N, B)
        loss = (q - target).square().mean(1).sum()
        return loss, {"critic/loss": loss.detach(), "critic/q": q.detach().mean()}

    def _actor_loss(self, batch: Batch, advantage: Tensor) -> tuple[Tensor, Metrics]:
        weight = (self.cfg.beta * advantage).exp().clamp_(max=self.cfg.max_weight)
        log_prob = self.actor.log_prob(self.actor.mean(batch.obs), batch.action)
        loss = -(weight * log_prob).mean()
        return loss, {"actor/loss": loss.detach(), "actor/weight": weight.mean()}

    def _new_critic(self) -> EnsembleCritic:
        cfg, spec = self.cfg, self.spec
        return EnsembleCritic(cfg.critics, spec.obs_dim, spec.action_dim, cfg.hidden, layer_norm=cfg.layer_norm)

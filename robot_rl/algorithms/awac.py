"""AWAC: advantage-weighted actor-critic (Nair et al. 2020, arXiv 2006.09359).

    y     = r + gamma (1 - d) min_i Q'_i(s', a'),  a' ~ pi(s')
    L(Q)  = E (Q_i(s, a) - y)^2
    A     = min_i Q_i(s, a) - V(s),                V(s) = min_i Q_i(s, a~),  a~ ~ pi(s) or its mean
    L(pi) = -E_D [w log pi(a|s)]

Two weightings: "softmax", w = N softmax_batch(A / lambda) over the N transitions of the batch (the
authors' code), and "exp", w = min(exp(A / lambda), 100) (CORL). The factor N keeps the step size
independent of the batch size. The effective sample size (sum w)^2 / sum w^2 is logged as a share of N.

Ours: V(s) and the log-likelihood share one actor pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from robot_rl.algorithms.agent import Agent, Metrics
from robot_rl.algorithms.steps import adam, descend, frozen_copy, polyak
from robot_rl.data.replay import Batch
from robot_rl.data.stats import ObservationStats
from robot_rl.errors import ConfigError
from robot_rl.nets.actor import GaussianActor
from robot_rl.nets.ensemble import EnsembleCritic
from robot_rl.spec import Spec


@dataclass(frozen=True, kw_only=True)
class AWACConfig:
    """Advantage-weighted actor-critic; defaults are the authors' for MuJoCo."""

    discount: float = 0.99  # per control step, in [0, 1)
    tau: float = 0.005  # target averaging per update
    actor_hidden: tuple[int, ...] = (256, 256, 256, 256)  # widths of the actor's hidden layers
    critic_hidden: tuple[int, ...] = (256, 256)  # widths of the critics' hidden layers
    lr: float = 3e-4  # learning rate, actor and critics
    weight_decay: float = 1e-4  # L2 penalty on the actor
    batch_size: int = 1024  # transitions per gradient step
    temperature: float = 2.0  # lambda, in units of the advantage; small trusts Q, large clones
    weighting: Literal["softmax", "exp"] = "softmax"  # how advantages become weights
    max_weight: float = 100.0  # cap of the exp weighting
    value_at_mean: bool = False  # V(s) = Q(s, mean action) instead of at a sample
    q_max: float | None = None  # clamp targets from above, such as 0 where rewards are -1 and 0
    critics: int = 2  # ensemble size
    layer_norm: bool = False  # layer norm in the critics
    squash_mean: bool = False  # tanh on the actor's mean, where actions press against their bounds
    dropout: float = 0.0  # share of the actor's hidden units silenced in training, in [0, 1)
    ema: float = 0.0  # share kept in the average of actors that acts in the actor's place, such as 0.999; 0 is off
    log_std_bounds: tuple[float, float] = (-6.0, 0.0)  # of the actor's standard deviation
    first_std: float | None = None  # where it begins; none for the middle of the bounds, as the authors'

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigError(f"AWAC temperature is {self.temperature}; it must be positive.")
        low, high = (math.exp(bound) for bound in self.log_std_bounds)
        if self.first_std is not None and not low <= self.first_std <= high:
            raise ConfigError(
                f"AWAC first_std is {self.first_std:g}; log_std_bounds {list(self.log_std_bounds)} let it lie between "
                f"{low:.3g} and {high:.3g}."
            )


class AWAC(Agent):
    """Advantage-weighted actor-critic."""

    def __init__(
        self, cfg: AWACConfig, spec: Spec, stats: ObservationStats, *, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(spec, stats, seed, device)
        self.cfg = cfg
        self.actor = GaussianActor(
            spec.obs_dim,
            spec.action_dim,
            cfg.actor_hidden,
            log_std=cfg.log_std_bounds,
            first_log_std=sum(cfg.log_std_bounds) / 2 if cfg.first_std is None else math.log(cfg.first_std),
            squash_mean=cfg.squash_mean,
            dropout=cfg.dropout,
        )
        self.critic = self._new_critic()
        self.target_critic = frozen_copy(self._new_critic(), self.critic)
        self.average_actor(cfg.ema)
        self.to(self.device)
        self.optimisers["actor"] = adam(self.actor.parameters(), cfg.lr, cfg.weight_decay)
        self.optimisers["critic"] = adam(self.critic.parameters(), cfg.lr)

    def learn(self, batch: Batch) -> Metrics:
        """One critic step, one actor step, one step of the target."""
        loss, metrics = self._critic_loss(batch)
        descend(self.optimisers["critic"], loss)
        polyak(self.target_critic, self.critic, self.cfg.tau)
        if not self.actor_frozen:
            loss, more = self._actor_loss(batch)
            descend(self.optimisers["actor"], loss)
            metrics |= more
        return metrics

    def _critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        with torch.no_grad():
            next_action = self.actor.sample(self.actor.mean(batch.next_obs), self.generator)
            next_q = self.target_critic(batch.next_obs, next_action).amin(0)  # (B,)
            target = batch.reward + self.cfg.discount * batch.mask * next_q
            if self.cfg.q_max is not None:
                target.clamp_(max=self.cfg.q_max)
        q = self.critic(batch.obs, batch.action)  # (N, B)
        loss = (q - target).square().mean(1).sum()
        return loss, {"critic/loss": loss.detach(), "critic/q": q.detach().mean()}

    def _actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        mean = self.actor.mean(batch.obs)  # (B, A)
        with torch.no_grad():
            own = mean.clamp(-1, 1) if self.cfg.value_at_mean else self.actor.sample(mean, self.generator)
            q = self.critic(batch.obs, batch.action).amin(0)  # (B,)
            value = self.critic(batch.obs, own).amin(0)  # (B,); one pass over both is slower: it leaves the caches
            advantage = q - value
            weight = self.weights(advantage)
        log_prob = self.actor.log_prob(mean, batch.action)  # (B,)
        loss = -(weight * log_prob).mean()
        effective = weight.sum().square() / weight.square().sum() / len(weight)
        return loss, {
            "actor/loss": loss.detach(),
            "actor/log_prob": log_prob.detach().mean(),
            "actor/effective_sample_share": effective,
            "actor/advantage": advantage.mean(),
        }

    def weights(self, advantage: Tensor) -> Tensor:
        """Weights of the log-likelihoods, (B,); softmax weights average to 1 over the batch."""
        scaled = advantage / self.cfg.temperature
        if self.cfg.weighting == "softmax":
            return scaled.softmax(0) * len(scaled)
        return scaled.exp().clamp_(max=self.cfg.max_weight)

    def _new_critic(self) -> EnsembleCritic:
        cfg, spec = self.cfg, self.spec
        return EnsembleCritic(cfg.critics, spec.obs_dim, spec.action_dim, cfg.critic_hidden, layer_norm=cfg.layer_norm)

"""SAC (Haarnoja et al. 2018, arXiv 1812.05905) in the form of RLPD (Ball et al. 2023, arXiv 2302.02948).

    y        = r + gamma (1 - d) [min_{i in M} Q'_i(s', a') - alpha log pi(a'|s')],   a' ~ pi(s')
    L(Q)     = E (Q_i(s, a) - y)^2                 M: `target_critics` of the N critics, drawn anew each update
    L(pi)    = E [lambda (alpha log pi(a~|s) - mean_i Q_i(s, a~)) + bc_weight |tanh mu(s) - a|^2],   a~ ~ pi(s)
    L(alpha) = alpha E [-log pi(a~|s) - target entropy]

RLPD is this with layer norm in ten critics, half of each batch from logged data and several updates a
step; it begins without pretraining. The cloning term is ours, for those who do begin from a pretrained
policy: lambda = 2.5 / mean |Q| as in TD3+BC while it has a weight, 1 without. `bc_filter` clones only
actions that the critics value above the policy's own (Nair et al. 2018, arXiv 1709.10089). An actor that adds to a
proposed action clones that one, a, instead of the logged one.
`backup_entropy` is off, as RLPD advises for sparse rewards.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robot_rl.algorithms.agent import Agent, Metrics
from robot_rl.algorithms.steps import adam, descend, frozen_copy, polyak, real_mean
from robot_rl.data.replay import Batch
from robot_rl.data.stats import ObservationStats
from robot_rl.errors import ConfigError
from robot_rl.nets.actor import FIRST_STD, ResidualActor, SquashedGaussianActor
from robot_rl.nets.ensemble import EnsembleCritic, PartialCritic
from robot_rl.spec import Spec


@dataclass(frozen=True, kw_only=True)
class SACConfig:
    """Soft actor-critic; defaults are RLPD's."""

    discount: float = 0.99  # per control step, in [0, 1)
    tau: float = 0.005  # target averaging per update
    hidden: tuple[int, ...] = (256, 256)  # widths of hidden layers, actor and critics
    lr: float = 3e-4  # learning rate, actor, critics and temperature
    batch_size: int = 256  # transitions per gradient step
    critics: int = 10  # ensemble size N
    target_critics: int = 2  # critics drawn for the target's minimum
    layer_norm: bool = True  # layer norm in the critics
    backup_entropy: bool = False  # count the next action's entropy as reward
    q_max: float | None = None  # clamp targets from above, such as 0 where rewards are -1 and 0
    alpha: float = 0.1  # entropy temperature at the start
    target_entropy: float | None = None  # default minus half the number of actions
    first_std: float = FIRST_STD  # of the policy before training, ahead of tanh
    actor_every: int = 1  # critic updates per actor update
    bc_weight: float = 0.0  # weight of the cloning term
    bc_filter: bool = False  # clone only where the critics prefer the logged action
    ema: float = 0.0  # share kept in the average of actors that acts in the actor's place, such as 0.999; 0 is off

    def __post_init__(self) -> None:
        if not 1 <= self.target_critics <= self.critics:
            raise ConfigError(
                f"target_critics is {self.target_critics}, but there are {self.critics} critics; "
                f"it must lie in 1 to {self.critics}."
            )
        if self.alpha <= 0:
            raise ConfigError(f"--agent.alpha is {self.alpha:g}; it must be above 0, such as 0.001 for little entropy.")


class SAC(Agent):
    """Soft actor-critic.

    Args:
        cfg: Options.
        spec: Widths and action bounds.
        stats: Frozen observation statistics.
        seed: Of the generator.
        device: "cpu" or "cuda".
        critics_see: So many of the observation's first entries; the rest is for the actor alone. None for all.
        residual: The observation's last A entries are an action that the actor adds to.
    """

    def __init__(
        self,
        cfg: SACConfig,
        spec: Spec,
        stats: ObservationStats,
        *,
        seed: int = 0,
        device: str = "cpu",
        critics_see: int | None = None,
        residual: bool = False,
    ) -> None:
        super().__init__(spec, stats, seed, device)
        self.cfg = cfg
        self._critics_see = spec.obs_dim if critics_see is None else critics_see
        kind = ResidualActor if residual else SquashedGaussianActor
        self.actor = kind(spec.obs_dim, spec.action_dim, cfg.hidden, first_std=cfg.first_std)
        self.critic = self._new_critic()
        self.target_critic = frozen_copy(self._new_critic(), self.critic)
        self.log_alpha = nn.Parameter(torch.tensor([cfg.alpha]).log())
        self.target_entropy = -spec.action_dim / 2 if cfg.target_entropy is None else cfg.target_entropy
        self.average_actor(cfg.ema)
        self.to(self.device)
        self.optimisers["actor"] = adam(self.actor.parameters(), cfg.lr)
        self.optimisers["critic"] = adam(self.critic.parameters(), cfg.lr)
        self.optimisers["alpha"] = adam([self.log_alpha], cfg.lr)

    @torch.no_grad()
    def take_over(self, former: Agent) -> None:
        super().take_over(former)
        if isinstance(former, SAC) and former.cfg.alpha != self.cfg.alpha:  # asked for, so it begins there
            self.log_alpha.fill_(math.log(self.cfg.alpha))

    def learn(self, batch: Batch) -> Metrics:
        """One critic step and, every `actor_every`, one step of actor and temperature."""
        loss, metrics = self._critic_loss(batch)
        descend(self.optimisers["critic"], loss)
        polyak(self.target_critic, self.critic, self.cfg.tau)
        if not self.actor_frozen and self.updates % self.cfg.actor_every == 0:
            self.critic.requires_grad_(False)
            loss, log_prob, more = self._actor_loss(batch)
            descend(self.optimisers["actor"], loss)
            self.critic.requires_grad_(True)
            metrics |= more | self._alpha_step(log_prob)
        return metrics

    def _critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        cfg = self.cfg
        with torch.no_grad():
            next_action, next_logp, _ = self.actor.sample(batch.next_obs, self.generator)
            drawn = torch.randperm(cfg.critics, generator=self.generator, device=self.device)[: cfg.target_critics]
            next_q = self.target_critic(batch.next_obs, next_action, drawn).amin(0)  # (B,)
            if cfg.backup_entropy:
                next_q -= self.log_alpha.exp() * next_logp
            target = batch.reward + cfg.discount * batch.mask * next_q
            if cfg.q_max is not None:
                target.clamp_(max=cfg.q_max)
        q = self.critic(batch.obs, batch.action)  # (N, B)
        loss = (q - target).square().mean(1).sum()
        return loss, {"critic/loss": loss.detach() / cfg.critics, "critic/q": q.detach().mean()}

    def _actor_loss(self, batch: Batch) -> tuple[Tensor, Tensor, Metrics]:
        cfg = self.cfg
        action, log_prob, mean = self.actor.sample(batch.obs, self.generator)
        q = self.critic(batch.obs, action).mean(0)  # (B,)
        soft = self.log_alpha.exp().detach() * log_prob - q
        if cfg.bc_weight == 0:
            return soft.mean(), log_prob.detach(), {}
        cloned = self.actor.proposed(batch.obs) if isinstance(self.actor, ResidualActor) else batch.action
        error = (mean - cloned).square().mean(1)  # (B,)
        metrics = {"actor/cloning": real_mean(error.detach(), batch.real)}
        if cfg.bc_filter:
            with torch.no_grad():
                better = (self.critic(batch.obs, cloned).mean(0) > q).float()
            metrics["actor/cloned_share"] = real_mean(better, batch.real)
            error = error * better
        scale = 2.5 / q.detach().abs().mean().clamp_min(1e-6)
        return scale * soft.mean() + cfg.bc_weight * real_mean(error, batch.real), log_prob.detach(), metrics

    def _alpha_step(self, log_prob: Tensor) -> Metrics:
        loss = (self.log_alpha.exp() * (-log_prob - self.target_entropy)).mean()
        descend(self.optimisers["alpha"], loss)
        return {"actor/entropy": -log_prob.mean(), "actor/alpha": self.log_alpha.detach().exp().squeeze(0)}

    def _new_critic(self) -> EnsembleCritic:
        cfg, spec = self.cfg, self.spec
        if self._critics_see == spec.obs_dim:
            return EnsembleCritic(cfg.critics, spec.obs_dim, spec.action_dim, cfg.hidden, layer_norm=cfg.layer_norm)
        return PartialCritic(cfg.critics, self._critics_see, spec.action_dim, cfg.hidden, layer_norm=cfg.layer_norm)

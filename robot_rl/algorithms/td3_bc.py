"""TD3+BC (Fujimoto and Gu 2021, arXiv 2106.06860); with `bc_weight = 0` it is TD3 (arXiv 1802.09477).

    y      = r + gamma (1 - d) min_i Q'_i(s', clip(pi'(s') + clip(eps, -c, c), -1, 1))
    L(Q)   = E (Q_i(s, a) - y)^2
    L(pi)  = E [-lambda Q_1(s, pi(s))] + bc_weight E_real (pi(s) - a)^2,   lambda = alpha / mean |Q_1|

The actor and the targets move every `policy_delay` critic updates. Ours: `bc_weight` scales the
cloning term so that it can be decayed online; with 0, lambda is 1 as in TD3. Actions that the policy tried in a
world model are not cloned: they are its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robot_rl.algorithms.agent import Agent, Metrics
from robot_rl.algorithms.steps import adam, descend, frozen_copy, polyak, real_mean
from robot_rl.data.replay import Batch
from robot_rl.data.stats import ObservationStats
from robot_rl.nets.actor import DeterministicActor
from robot_rl.nets.ensemble import EnsembleCritic
from robot_rl.spec import Spec


@dataclass(frozen=True, kw_only=True)
class TD3BCConfig:
    """TD3 with a behaviour-cloning term."""

    discount: float = 0.99  # per control step, in [0, 1)
    tau: float = 0.005  # target averaging per policy update
    hidden: tuple[int, ...] = (256, 256)  # widths of hidden layers, actor and critics
    lr: float = 3e-4  # learning rate, actor and critics
    batch_size: int = 256  # transitions per gradient step
    alpha: float = 2.5  # weight of Q against cloning
    bc_weight: float = 1.0  # weight of the cloning term; 0 is TD3
    policy_delay: int = 2  # critic updates per actor update
    target_noise: float = 0.2  # std of the noise on the target action
    noise_clip: float = 0.5  # bound of that noise
    exploration: float = 0.1  # std of the noise on actions taken online, of their half range
    critics: int = 2  # ensemble size, the minimum of all is the target
    layer_norm: bool = False  # layer norm in the critics


class TD3BC(Agent):
    """TD3+BC."""

    def __init__(
        self, cfg: TD3BCConfig, spec: Spec, stats: ObservationStats, *, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(spec, stats, seed, device)
        self.cfg = cfg
        self.actor = self._new_actor()
        self.critic = self._new_critic()
        self.target_actor = frozen_copy(self._new_actor(), self.actor)
        self.target_critic = frozen_copy(self._new_critic(), self.critic)
        self.to(self.device)
        self._first = torch.zeros(1, dtype=torch.long, device=self.device)
        self.optimisers["actor"] = adam(self.actor.parameters(), cfg.lr)
        self.optimisers["critic"] = adam(self.critic.parameters(), cfg.lr)

    def adopt(self, former: Agent) -> None:
        """As the base; the target actor follows at once."""
        super().adopt(former)
        self.target_actor.load_state_dict(self.actor.state_dict())

    def learn(self, batch: Batch) -> Metrics:
        """One critic step and, every `policy_delay`, one actor and target step."""
        loss, metrics = self._critic_loss(batch)
        descend(self.optimisers["critic"], loss)
        if self.updates % self.cfg.policy_delay == 0:
            if not self.actor_frozen:
                metrics |= self._actor_step(batch)
            polyak(self.target_critic, self.critic, self.cfg.tau)
            polyak(self.target_actor, self.actor, self.cfg.tau)
        return metrics

    def _actor_step(self, batch: Batch) -> Metrics:
        self.critic.requires_grad_(False)
        loss, metrics = self._actor_loss(batch)
        descend(self.optimisers["actor"], loss)
        self.critic.requires_grad_(True)
        return metrics

    def _critic_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        cfg = self.cfg
        with torch.no_grad():
            noise = torch.randn(batch.action.shape, generator=self.generator, device=self.device)
            noise = (noise * cfg.target_noise).clamp_(-cfg.noise_clip, cfg.noise_clip)
            next_action = (self.target_actor(batch.next_obs) + noise).clamp_(-1.0, 1.0)
            next_q = self.target_critic(batch.next_obs, next_action).amin(0)  # (B,)
            target = batch.reward + cfg.discount * batch.mask * next_q
        q = self.critic(batch.obs, batch.action)  # (N, B)
        loss = (q - target).square().mean(1).sum()
        return loss, {"critic/loss": loss.detach(), "critic/q": q.detach().mean()}

    def _actor_loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        action = self.actor(batch.obs)
        q = self.critic(batch.obs, action, self._first)[0]  # (B,), Q_1 alone
        if self.cfg.bc_weight == 0:
            loss = -q.mean()
            return loss, {"actor/loss": loss.detach()}
        scale = self.cfg.alpha / q.detach().abs().mean().clamp_min(1e-6)
        cloning = real_mean((action - batch.action).square().mean(1), batch.real)
        loss = -scale * q.mean() + self.cfg.bc_weight * cloning
        return loss, {"actor/loss": loss.detach(), "actor/cloning": cloning.detach()}

    def _new_actor(self) -> DeterministicActor:
        cfg, spec = self.cfg, self.spec
        return DeterministicActor(spec.obs_dim, spec.action_dim, cfg.hidden, exploration=cfg.exploration)

    def _new_critic(self) -> EnsembleCritic:
        cfg, spec = self.cfg, self.spec
        return EnsembleCritic(cfg.critics, spec.obs_dim, spec.action_dim, cfg.hidden, layer_norm=cfg.layer_norm)

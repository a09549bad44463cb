"""Actor and critic trained in imagination: DreamerV2 (Hafner et al. 2021, arXiv 2010.02193) with Gaussian latents and
gradients through the dynamics, as Vid2Act uses it (arXiv 2306.03360).

    s_0 = every posterior state of the batch in which the task goes on
    a_i ~ pi(s_i, g_i);   s_{i+1} ~ p(. | s_i, a_i)
    R_i      = r_{i+1} + gamma c_{i+1} [(1 - lambda) v'(s_{i+1}) + lambda R_{i+1}],    R_H = v'(s_H)
    L(pi)    = - E sum_i d_i (R_i + eta H[pi(s_i, g_i)])        d_i = prod_{j<=i} gamma c_j
    L(v)     = E sum_i d_i (v(s_i) - sg R_i)^2 / 2              v': copied from v every `target_every` updates

H is the sample's negative log-probability after tanh. With a teacher, its states are imagined beside the student's, so
that the guide goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from robot_rl.algorithms.agent import Metrics
from robot_rl.algorithms.steps import adam, descend, frozen_copy
from robot_rl.algorithms.student import Student, StudentConfig
from robot_rl.data.sequences import Sequences
from robot_rl.data.stats import ObservationStats
from robot_rl.latent.codec import elu_mlp
from robot_rl.latent.model import symexp
from robot_rl.nets.actor import FIRST_STD, ResidualActor, SquashedGaussianActor
from robot_rl.spec import Spec


@dataclass(frozen=True, kw_only=True)
class DreamerConfig(StudentConfig):
    """Actor and critic in imagination; the paper's horizon is 15."""

    horizon: int = 8  # imagined steps
    discount: float = 0.99  # per control step, in [0, 1)
    trace: float = 0.95  # lambda of the returns, in [0, 1]
    entropy: float = 1e-4  # its weight
    lr: float = 8e-5  # learning rate of actor and critic
    hidden: tuple[int, ...] = (256, 256)  # hidden layers of actor and critic
    target_every: int = 100  # updates between copies of the critic
    first_std: float = FIRST_STD  # of the policy before training, ahead of tanh
    clip: float = 100.0  # largest gradient norm of actor and critic


class _Dream(NamedTuple):
    """H imagined steps from N states."""

    states: Tensor  # (H+1, N, F)
    returns: Tensor  # (H, N)
    entropy: Tensor  # (H, N)
    weights: Tensor  # (H, N), how likely the episode still goes on, discounted


class Dreamer(Student):
    """Actor and critic in imagination."""

    cfg: DreamerConfig

    def __init__(
        self, cfg: DreamerConfig, spec: Spec, stats: ObservationStats, *, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(cfg, spec, stats, direct=False, seed=seed, device=device)
        kind = ResidualActor if self._guided and cfg.transfer.residual else SquashedGaussianActor
        self.actor = kind(self.shown_dim, spec.action_dim, cfg.hidden, first_std=cfg.first_std)
        self.critic = elu_mlp(self.model.width, cfg.hidden, 1)
        self.target_critic = frozen_copy(elu_mlp(self.model.width, cfg.hidden, 1), self.critic)
        self.to(self.device)
        self.optimisers["actor"] = adam(self.actor.parameters(), cfg.lr)
        self.optimisers["critic"] = adam(self.critic.parameters(), cfg.lr)

    def improve(self, seen: Sequences, states: Tensor, theirs: Tensor | None) -> Metrics:
        """One step of actor and critic on dreams from every state of the batch."""
        arrived = seen.valid * seen.mask  # nothing follows a state in which the task ended
        there = torch.cat([torch.ones_like(arrived[:1]), arrived]).flatten() > 0
        begin = states.flatten(0, 1)[there]
        guides = None if theirs is None or not self._guided else theirs.flatten(0, 1)[there]
        fixed = [self.model, self.target_critic]
        for module in fixed:
            module.requires_grad_(False)
        dream = self._dream(begin, guides)
        actor_loss = -(dream.weights * (dream.returns + self.cfg.entropy * dream.entropy)).mean()
        if not self.actor_frozen:
            descend(self.optimisers["actor"], actor_loss, clip=self.cfg.clip)
        value = self.critic(dream.states[:-1].detach()).squeeze(-1)  # (H, N)
        critic_loss = 0.5 * (dream.weights * (value - dream.returns.detach()).square()).mean()
        descend(self.optimisers["critic"], critic_loss, clip=self.cfg.clip)
        self.model.requires_grad_(True)
        if self.updates % self.cfg.target_every == 0:
            self.target_critic.load_state_dict(self.critic.state_dict())
        return {
            "actor/loss": actor_loss.detach(),
            "actor/entropy": dream.entropy.detach().mean(),
            "critic/loss": critic_loss.detach(),
            "critic/value": value.detach().mean(),
        }

    def _dream(self, state: Tensor, theirs: Tensor | None) -> _Dream:
        """Imagine from N states, (N, F), and the teacher's, (N, K, F')."""
        cfg, guide = self.cfg, self.guide
        states, entropies = [state], list[Tensor]()
        for _ in range(cfg.horizon):
            shown = self.shown(state.detach(), self._imagined(state.detach()), theirs)
            action, log_prob, _ = self.actor.sample(shown, self.generator)
            state = self.model.rssm.imagine(state, action, None, self._noise(len(state), self.model.rssm.stoch))
            if guide is not None and theirs is not None:
                noise = self._noise(*theirs.shape[:2], guide.teacher.rssm.stoch)
                theirs = guide.expect(theirs, action.detach(), noise)
            states.append(state)
            entropies.append(-log_prob)
        path = torch.stack(states)
        arrived = path[1:]
        rewards = cfg.reward_scale * symexp(self.model.reward(arrived).squeeze(-1))
        going = cfg.discount * torch.sigmoid(self.model.going_on(arrived).squeeze(-1))
        values = self.target_critic(arrived).squeeze(-1)
        weights = torch.cat([torch.ones_like(going[:1]), going[:-1]]).detach().cumprod(0)
        return _Dream(path, lambda_returns(rewards, going, values, cfg.trace), torch.stack(entropies), weights)

    @property
    def _guided(self) -> bool:
        return self.guide is not None and self.guide.width > 0

    @property
    def _acting_net(self) -> SquashedGaussianActor:
        return self.actor

    def _imagined(self, state: Tensor) -> Tensor:
        """The observation that the action replay sees in a dream, (N, S); empty where it sees none."""
        wanted = self._guided and self.cfg.transfer.replay_sees == "observation"
        return self.model.decoder(state) if wanted else state.new_zeros(len(state), 0)

    def _noise(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)


def lambda_returns(rewards: Tensor, discounts: Tensor, values: Tensor, trace: float) -> Tensor:
    """R_i = r_{i+1} + d_{i+1} [(1 - trace) v_{i+1} + trace R_{i+1}], from the end, (H, N) each.

    Args:
        rewards: On arriving in state i+1.
        discounts: Of what comes after it.
        values: Of it.
        trace: lambda.
    """
    latest = values[-1]
    returns: list[Tensor] = []
    for reward, discount, value in zip(
        reversed(rewards.unbind(0)), reversed(discounts.unbind(0)), reversed(values.unbind(0)), strict=True
    ):
        latest = reward + discount * ((1.0 - trace) * value + trace * latest)
        returns.append(latest)
    return torch.stack(returns[::-1])

"""Actors. All speak normalised observations and actions in [-1, 1]; `Policy` wraps one for the outside."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from robot_rl.data.stats import ObservationStats
from robot_rl.errors import ConfigError
from robot_rl.nets.mlp import mlp
from robot_rl.spec import Spec

FIRST_STD = 1.0  # exploration of an actor before training, ahead of tanh
ADOPTED_STD = 0.1  # exploration of an actor whose mean another learner trained, of the action's half range


class Actor(nn.Module, ABC):
    """What every actor does: decide, and decide with a given draw of noise.

    `net` maps an observation to the mean action (before any squashing) in every kind of actor, so one
    learner's actor can begin where another's ended (`adopt`).
    """

    net: nn.Sequential
    squash_mean = True  # whether the mean goes through tanh; else it is clipped

    @abstractmethod
    def explore(self, obs: Tensor, noise: Tensor) -> Tensor:
        """The action under standard normal `noise`, (B, S), (B, A) -> (B, A); zero noise gives `forward`."""

    def adopt(self, other: Actor) -> None:
        """Take over the weights of another actor's `net`; exploration begins small.

        Raises:
            ConfigError: If the two have other layers, or only one squashes its mean.
        """
        mine, theirs = list(self.net.parameters()), list(other.net.parameters())
        if [p.shape for p in mine] != [p.shape for p in theirs]:
            widths = [[p.shape[0] for p in side if p.ndim == 2] for side in (mine, theirs)]
            raise ConfigError(
                f"The new learner's actor has layers of {widths[0]} units, the pretrained one {widths[1]}. "
                f"Give the new one the same hidden layers."
            )
        if self.squash_mean != other.squash_mean:
            theirs_does, mine_does = ("squashes", "clips") if other.squash_mean else ("clips", "squashes")
            raise ConfigError(
                f"The pretrained actor {theirs_does} its mean, the new learner's {mine_does} it: the same weights "
                f"would act differently. {'Give' if other.squash_mean else 'Pretrain with'} --agent.squash-mean."
            )
        with torch.no_grad():
            for own, given in zip(mine, theirs, strict=True):
                own.copy_(given)
            self.explore_by(ADOPTED_STD)

    def explore_by(self, std: float) -> None:
        """Give a stochastic actor this standard deviation in every state; others have none."""


class DeterministicActor(Actor):
    """a = tanh(f(s)), (B, S) -> (B, A).

    Args:
        obs_dim: S.
        action_dim: A.
        hidden: Widths of the hidden layers.
        dropout: Share of hidden units silenced in training, in [0, 1).
        exploration: Standard deviation of the noise when exploring, of the action's half range.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        *,
        dropout: float = 0.0,
        exploration: float = 0.1,
    ) -> None:
        super().__init__()
        self.net = mlp(obs_dim, hidden, action_dim, dropout=dropout)
        self.exploration = exploration

    def forward(self, obs: Tensor) -> Tensor:
        """The action, (B, A)."""
        return torch.tanh(self.net(obs))

    def explore(self, obs: Tensor, noise: Tensor) -> Tensor:
        """The action plus Gaussian noise, clipped, (B, A)."""
        return (self(obs) + self.exploration * noise).clamp(-1.0, 1.0)


class GaussianActor(Actor):
    """a ~ N(mean(s), diag(exp(2 log_std))), with a state-independent, bounded log_std.

    Args:
        obs_dim: S.
        action_dim: A.
        hidden: Widths of the hidden layers.
        log_std: Bounds of the learned log standard deviation.
        first_log_std: Where it begins, within them: beyond, nothing would move it.
        squash_mean: Send the mean through tanh; without it the mean is clipped when acting.
        dropout: Share of hidden units silenced in training, in [0, 1).
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        *,
        log_std: tuple[float, float] = (-6.0, 0.0),
        first_log_std: float = 0.0,
        squash_mean: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.net = mlp(obs_dim, hidden, action_dim, dropout=dropout)
        self.log_std = nn.Parameter(torch.full((action_dim,), min(max(first_log_std, log_std[0]), log_std[1])))
        self.bounds = log_std
        self.squash_mean = squash_mean

    def mean(self, obs: Tensor) -> Tensor:
        """Mean action before clipping, (B, A)."""
        mean = self.net(obs)
        return torch.tanh(mean) if self.squash_mean else mean

    def std(self) -> Tensor:
        """Standard deviation, (A,)."""
        return self.log_std.clamp(*self.bounds).exp()

    def forward(self, obs: Tensor) -> Tensor:
        """The deterministic action: the mean, clipped to the action bounds, (B, A)."""
        return self.mean(obs).clamp(-1.0, 1.0)

    def explore(self, obs: Tensor, noise: Tensor) -> Tensor:
        """A clipped draw from the policy, (B, A)."""
        return (self.mean(obs) + self.std() * noise).clamp(-1.0, 1.0)

    def explore_by(self, std: float) -> None:
        self.log_std.fill_(math.log(std))

    def sample(self, mean: Tensor, generator: torch.Generator) -> Tensor:
        """A clipped draw around `mean`, without gradient, (B, A)."""
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return (mean.detach() + self.std().detach() * noise).clamp_(-1.0, 1.0)

    def log_prob(self, mean: Tensor, action: Tensor) -> Tensor:
        """log N(action; mean, std), summed over dimensions, (B,)."""
        z = (action - mean) / self.std()
        log_norm = self.log_std.clamp(*self.bounds).sum() + 0.5 * math.log(2 * math.pi) * action.shape[-1]
        return -0.5 * z.square().sum(-1) - log_norm


class SquashedGaussianActor(Actor):
    """a = tanh(u), u ~ N(f(s), diag(std(s)^2)): the actor of SAC.

    Args:
        obs_dim: S.
        action_dim: A.
        hidden: Widths of the hidden layers.
        log_std: Bounds of the log standard deviation.
        first_std: Standard deviation before training, in every state.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        *,
        log_std: tuple[float, float] = (-5.0, 2.0),
        first_std: float = FIRST_STD,
    ) -> None:
        super().__init__()
        self.net = mlp(obs_dim, hidden, action_dim)
        self.log_std = nn.Linear(hidden[-1], action_dim)
        self.bounds = log_std
        self.explore_by(first_std)

    def forward(self, obs: Tensor) -> Tensor:
        """The deterministic action tanh(f(s)), (B, A)."""
        return torch.tanh(self.net(obs))

    def explore(self, obs: Tensor, noise: Tensor) -> Tensor:
        """A draw from the policy, (B, A)."""
        mean, log_std = self._moments(obs)
        return torch.tanh(mean + log_std.exp() * noise)

    def sample(self, obs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """A draw with its log-probability and the deterministic action, (B, A), (B,), (B, A), with gradients."""
        mean, log_std = self._moments(obs)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        u = mean + log_std.exp() * noise
        log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
        log_slope = 2 * (math.log(2) - u - nn.functional.softplus(-2 * u))  # log(1 - tanh(u)^2)
        return torch.tanh(u), (log_normal - log_slope).sum(-1), torch.tanh(mean)

    def explore_by(self, std: float) -> None:
        nn.init.zeros_(self.log_std.weight)
        nn.init.constant_(self.log_std.bias, math.log(std))

    def _moments(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net[:-1](obs)
        return self.net[-1](features), self.log_std(features).clamp(*self.bounds)


class ResidualActor(SquashedGaussianActor):
    """A `SquashedGaussianActor` that adds to an action proposed to it: the last A entries of what it sees, before tanh.

    Its first outputs are near zero, so that it begins by doing what is proposed (residual policy learning: Silver et
    al. 2018, arXiv 1812.06298).
    """

    def __init__(self, obs_dim: int, action_dim: int, hidden: Sequence[int], *, first_std: float = FIRST_STD) -> None:
        super().__init__(obs_dim, action_dim, hidden, first_std=first_std)
        self.actions = action_dim

    def forward(self, obs: Tensor) -> Tensor:
        """The deterministic action, (B, A)."""
        return torch.tanh(self._moments(obs)[0])

    def proposed(self, obs: Tensor) -> Tensor:
        """The action proposed to it, (B, A)."""
        return torch.tanh(obs[..., -self.actions :])

    def _moments(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = super()._moments(obs)
        return mean + obs[..., -self.actions :], log_std


class Scaler(nn.Module):
    """Between the robot's units and the networks' own: frozen, and part of every checkpoint."""

    mean: Tensor
    std: Tensor
    centre: Tensor
    half_range: Tensor

    def __init__(self, spec: Spec, stats: ObservationStats) -> None:
        super().__init__()
        low, high = torch.from_numpy(spec.action_low), torch.from_numpy(spec.action_high)
        bounded = torch.isfinite(low) & torch.isfinite(high)
        one = torch.ones_like(low)
        self.register_buffer("mean", torch.from_numpy(stats.mean.copy()))
        self.register_buffer("std", torch.from_numpy(stats.std.copy()))
        self.register_buffer("centre", torch.where(bounded, (low + high) / 2, 0 * one))
        self.register_buffer("half_range", torch.where(bounded, (high - low) / 2, one))

    def obs(self, raw: Tensor) -> Tensor:
        """Normalised observation."""
        return (raw - self.mean) / self.std

    def to_unit(self, action: Tensor) -> Tensor:
        """Executable action -> [-1, 1]."""
        return (action - self.centre) / self.half_range

    def from_unit(self, action: Tensor) -> Tensor:
        """[-1, 1] -> executable action."""
        return self.centre + self.half_range * action


class Policy(nn.Module):
    """Raw observation in, executable action out: the module that is evaluated and exported."""

    def __init__(self, actor: nn.Module, scaler: Scaler) -> None:
        super().__init__()
        self.actor = actor
        self.scaler = scaler

    def forward(self, obs: Tensor) -> Tensor:
        """Deterministic executable action, (B, S) -> (B, A)."""
        return self.scaler.from_unit(cast("Tensor", self.actor(self.scaler.obs(obs))))


class Behaviour(nn.Module):
    """The policy as it acts while collecting: raw observation and standard normal noise in, action out."""

    def __init__(self, actor: Actor, scaler: Scaler) -> None:
        super().__init__()
        self.actor = actor
        self.scaler = scaler

    def forward(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Executable action, (B, S), (B, A) -> (B, A)."""
        return self.scaler.from_unit(self.actor.explore(self.scaler.obs(obs), noise))

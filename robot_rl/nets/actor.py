"""Actors. All speak normalised observations and actions in [-1, 1]; `Policy` wraps one for the outside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from robot_rl.data.stats import ObservationStats
from robot_rl.nets.mlp import mlp
from robot_rl.spec import Spec


class DeterministicActor(nn.Module):
    """a = tanh(f(s)), (B, S) -> (B, A)."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: Sequence[int], *, dropout: float = 0.0) -> None:
        super().__init__()
        self.net = mlp(obs_dim, hidden, action_dim, dropout=dropout)

    def forward(self, obs: Tensor) -> Tensor:
        """The action, (B, A)."""
        return torch.tanh(self.net(obs))


class GaussianActor(nn.Module):
    """a ~ N(mean(s), diag(exp(2 log_std))), with a state-independent, bounded log_std.

    Args:
        obs_dim: S.
        action_dim: A.
        hidden: Widths of the hidden layers.
        log_std: Bounds of the learned log standard deviation.
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
        squash_mean: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.net = mlp(obs_dim, hidden, action_dim, dropout=dropout)
        self.log_std = nn.Parameter(torch.zeros(action_dim))
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

    def sample(self, mean: Tensor, generator: torch.Generator) -> Tensor:
        """A clipped draw around `mean`, without gradient, (B, A)."""
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return (mean.detach() + self.std().detach() * noise).clamp_(-1.0, 1.0)

    def log_prob(self, mean: Tensor, action: Tensor) -> Tensor:
        """log N(action; mean, std), summed over dimensions, (B,)."""
        z = (action - mean) / self.std()
        log_norm = self.log_std.clamp(*self.bounds).sum() + 0.5 * math.log(2 * math.pi) * action.shape[-1]
        return -0.5 * z.square().sum(-1) - log_norm


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

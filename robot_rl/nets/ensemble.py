"""Critic ensembles: N networks as one batched matrix product a layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EnsembleLinear(nn.Module):
    """N independent linear layers, (N, B, inputs) -> (N, B, outputs).

    Initialised like `torch.nn.Linear`: uniform within 1/sqrt(inputs).
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        """Apply member n, or `members[n]`, to x[n]."""
        weight, bias = _some(self.weight, members), _some(self.bias, members)
        if weight.shape[-1] == 1:  # a batched product with one column is six times slower than this
            return (x * weight.mT).sum(-1, keepdim=True) + bias
        return torch.baddbmm(bias, x, weight)


class EnsembleNorm(nn.Module):
    """Layer norm with its own scale and shift for each of N members, on (N, B, width)."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, 1, width))
        self.bias = nn.Parameter(torch.zeros(members, 1, width))

    def forward(self, x: Tensor, members: Tensor | None = None) -> Tensor:
        """Normalise the last dimension."""
        return F.layer_norm(x, x.shape[-1:]) * _some(self.weight, members) + _some(self.bias, members)


class EnsembleCritic(nn.Module):
    """Q_1 ... Q_N as one module, (B, S), (B, A) -> (N, B).

    Args:
        members: Number of critics N.
        obs_dim: S.
        action_dim: A.
        hidden: Widths of the hidden layers.
        layer_norm: Normalise before each ReLU; keeps Q from running away off the data.
    """

    def __init__(
        self, members: int, obs_dim: int, action_dim: int, hidden: Sequence[int], *, layer_norm: bool = False
    ) -> None:
        super().__init__()
        self.members = members
        self.obs_dim = obs_dim
        layers: list[nn.Module] = []
        width = obs_dim + action_dim
        for size in hidden:
            layers.append(EnsembleLinear(members, width, size))
            if layer_norm:
                layers.append(EnsembleNorm(members, size))
            layers.append(nn.ReLU(inplace=True))
            width = size
        layers.append(EnsembleLinear(members, width, 1))
        self.net = nn.Sequential(*layers)

    def forward(self, obs: Tensor, action: Tensor, members: Tensor | None = None) -> Tensor:
        """Q_n(s, a) for every member, (N, B); or for those with the indices `members`, (M,), alone, (M, B)."""
        x = torch.cat([obs, action], dim=-1)
        x = x.expand(self.members if members is None else len(members), *x.shape)
        for layer in self.net:
            x = layer(x, members) if isinstance(layer, EnsembleLinear | EnsembleNorm) else layer(x)
        return x.squeeze(-1)


class PartialCritic(EnsembleCritic):
    """Critics that see the first S entries of what the actor sees, (B, S + ...), (B, A) -> (N, B)."""

    def forward(self, obs: Tensor, action: Tensor, members: Tensor | None = None) -> Tensor:
        """Q_n(s, a), as for `EnsembleCritic`."""
        return super().forward(obs[..., : self.obs_dim], action, members)


def _some(parameter: nn.Parameter, members: Tensor | None) -> Tensor:
    return parameter if members is None else parameter[members]

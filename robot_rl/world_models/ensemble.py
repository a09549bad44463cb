"""A probabilistic ensemble (Chua et al. 2018, arXiv 1805.12114; as in MBPO, arXiv 1906.08253, and MOPO).

    (s' - s, r) ~ N(mu_n(s, a), diag sigma_n^2(s, a)),   p_n(end | s, a),   n = 1 ... 7
    L = sum_n E |sigma_n^2b| [(mu_n - y)^2 / sigma_n^2 + log sigma_n^2]
        + 0.01 sum (log sigma_max^2 - log sigma_min^2) + BCE

with |.| a constant to the gradient. `beta` b = 0 is the plain likelihood, under which rows that are hard to predict
soon count for little and stay badly predicted; 0.5 is Seitzer et al. (2022, arXiv 2203.09168). Every member sees its
own order of the data; the five with the lowest held-out error, the elites, predict. The answer is the mean of their
means, or, as in MBPO, a draw from a random one of them. The spread is that of the elites' mixture: the variance of
their means plus their mean variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robot_rl.algorithms.agent import Metrics
from robot_rl.algorithms.steps import adam
from robot_rl.data.replay import Batch
from robot_rl.data.stats import ObservationStats
from robot_rl.errors import ConfigError
from robot_rl.nets.ensemble import EnsembleLinear, EnsembleNorm
from robot_rl.spec import Spec
from robot_rl.world_models.model import Guess, Targets, WorldModel

# Predicted at a time: layers of more rows leave the cache, and their memory is taken and given back each time.
_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """Probabilistic ensemble; sizes are MBPO's."""

    networks: int = 7  # members that are trained
    elites: int = 5  # members that predict
    hidden: tuple[int, ...] = (200, 200, 200, 200)  # widths of hidden layers
    layer_norm: bool = True  # normalise before each activation; MBPO doesn't
    beta: float = 0.5  # how far hard rows keep their weight, in [0, 1]; 0 is MBPO's likelihood
    predict: Literal["mean", "draw"] = "mean"  # of the elites' means, or a draw from a random elite as in MBPO
    lr: float = 1e-3  # learning rate
    weight_decay: float = 5e-5  # L2 penalty
    bound_weight: float = 0.01  # pull on the bounds of the predicted variance
    batch_size: int = 256  # transitions per member and gradient step
    epochs: int = 200  # passes over the data, at most
    patience: int = 10  # epochs without a better held-out error of any member before training stops

    def __post_init__(self) -> None:
        if not 1 <= self.elites <= self.networks:
            raise ConfigError(f"elites is {self.elites} of {self.networks} networks; choose 1 to {self.networks}.")
        if not 0 <= self.beta <= 1:
            raise ConfigError(f"beta is {self.beta:g}; it must lie in [0, 1].")


class EnsembleModel(WorldModel):
    """Probabilistic ensemble with elites."""

    elites: Tensor

    def __init__(
        self,
        cfg: EnsembleConfig,
        spec: Spec,
        stats: ObservationStats,
        targets: Targets | None = None,
        *,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(spec, stats, targets, seed, device)
        self.cfg, self.options = cfg, cfg
        self.members = cfg.networks
        self.outputs = spec.obs_dim + 1  # change of state and reward
        widths = [spec.obs_dim + self.inputs, *cfg.hidden, 2 * self.outputs + 1]
        self.layers = nn.ModuleList(EnsembleLinear(cfg.networks, a, b) for a, b in pairwise(widths))
        norms = cfg.hidden if cfg.layer_norm else ()
        self.norms = nn.ModuleList(EnsembleNorm(cfg.networks, width) for width in norms)
        self.max_log_var = nn.Parameter(torch.full((cfg.networks, 1, self.outputs), 0.5))
        self.min_log_var = nn.Parameter(torch.full((cfg.networks, 1, self.outputs), -10.0))
        self.register_buffer("elites", torch.arange(cfg.elites))
        self.to(self.device)
        self.optimiser = adam(self.parameters(), cfg.lr, cfg.weight_decay)

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Gaussian likelihood and termination loss of (N, B, ...), summed over members."""
        mean, log_var, ended = self._forward(torch.cat([batch.obs, batch.action], -1), None)
        wanted = self._wanted(batch)
        squared = (mean - wanted).square()
        weight = (self.options.beta * log_var.detach()).exp()
        likelihood = (weight * (squared * (-log_var).exp() + log_var)).mean((1, 2)).sum()
        bounds = (self.max_log_var - self.min_log_var).sum()
        ended_loss = F.binary_cross_entropy_with_logits(ended, 1 - batch.mask, reduction="none").mean(1).sum()
        metrics = {
            "train/likelihood": likelihood.detach() / self.members,
            "train/next_state": squared.detach()[..., :-1].mean(),
            "train/reward": squared.detach()[..., -1].mean(),
            "train/termination": ended_loss.detach() / self.members,
        }
        return likelihood + self.options.bound_weight * bounds + ended_loss, metrics

    @torch.no_grad()
    def errors(self, batch: Batch) -> Tensor:
        """Mean squared error of every member over scaled changes and reward, (N,)."""
        x = torch.cat([batch.obs, batch.action], -1)
        mean, _, _ = self._forward(x.expand(self.members, *x.shape), None)
        return (mean - self._wanted(batch)).square().mean((1, 2))

    def settle(self, errors: Tensor) -> None:
        """Let the members with the lowest held-out error predict."""
        super().settle(errors)
        self.elites.copy_(errors.argsort()[: self.options.elites].sort().values)

    def guess(self, obs: Tensor, action: Tensor, generator: torch.Generator) -> Guess:
        """What the elites expect, or a draw from a random one for each row, and the spread of them all."""
        parts = torch.cat([obs, action], -1).split(_ROWS)
        pieces = [self._forward(part.expand(len(self.elites), *part.shape), self.elites) for part in parts]
        means, log_vars, ended = (torch.cat(column, 1) for column in zip(*pieces, strict=True))
        reward = means[..., -1].mean(0)
        means, variances = means[..., :-1], log_vars[..., :-1].exp()
        changes = means.mean(0)
        if self.options.predict == "draw":
            rows = torch.arange(len(obs), device=obs.device)
            picked = torch.randint(len(self.elites), (len(obs),), generator=generator, device=obs.device)
            noise = torch.randn(changes.shape, generator=generator, device=obs.device)
            changes = means[picked, rows] + variances[picked, rows].sqrt() * noise
        return Guess(
            next_obs=obs + self.change * changes,
            reward=reward,
            terminated=ended.sigmoid().mean(0),
            spread=(means.var(0, correction=0) + variances.mean(0)).sqrt() * self.change,
        )

    def _wanted(self, batch: Batch) -> Tensor:
        change = (batch.next_obs - batch.obs) / self.change
        return torch.cat([change, batch.reward[..., None]], -1)

    def _forward(self, x: Tensor, members: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Means and log variances (N, B, S + 1) and termination logits (N, B), of all or some members."""
        top, low = self.max_log_var, self.min_log_var
        if members is not None:
            top, low = top[members], low[members]
        for index, linear in enumerate(self.layers):
            if index:
                x = F.silu(self.norms[index - 1](x, members) if len(self.norms) else x)
            x = linear(x, members)
        mean, log_var, ended = x.split([self.outputs, self.outputs, 1], -1)
        log_var = top - F.softplus(top - log_var)
        return mean, low + F.softplus(log_var - low), ended.squeeze(-1)

"""Recurrent state-space model with Gaussian latents (Hafner et al. 2019, arXiv 1811.04551; the cell and the balanced
divergence of DreamerV2, arXiv 2010.02193).

    h_t  = GRU(h_{t-1}, ELU(W [z_{t-1}, a_{t-1}, c]))       deterministic path, layer norm in the cell
    prior      p(z_t | h_t)        = N(mu, sigma)            what the model expects
    posterior  q(z_t | h_t, e_t)   = N(mu, sigma)            after the observation's embedding e_t
    state_t  = [h_t, z_t]

c is a fixed context, such as which task it is. A state is one vector, zero where an episode begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MIN_STD = 0.1


class Gaussian(NamedTuple):
    """Independent normal distributions, (..., Z) each."""

    mean: Tensor
    std: Tensor


class Trace(NamedTuple):
    """What the model makes of a sequence of T observations, (T, B, ...)."""

    state: Tensor  # (T, B, D + Z)
    prior: Gaussian
    posterior: Gaussian


@dataclass(frozen=True, kw_only=True)
class RSSMConfig:
    """Sizes of the recurrent model; the papers use 200, 50, 200 with pictures."""

    deter: int = 128  # width of the deterministic path
    stoch: int = 32  # Gaussian latents
    hidden: int = 128  # width of the layers between


class RSSM(nn.Module):
    """The transition of the latent state.

    Args:
        cfg: Sizes.
        embed: Width E of an observation's embedding.
        actions: A.
        context: Width of the context; 0 for none.
    """

    def __init__(self, cfg: RSSMConfig, embed: int, actions: int, context: int = 0) -> None:
        super().__init__()
        self.deter, self.stoch = cfg.deter, cfg.stoch
        self.width = cfg.deter + cfg.stoch
        self.into = nn.Linear(cfg.stoch, cfg.hidden)
        self.given = nn.Linear(actions + context, cfg.hidden, bias=False)
        self.cell = nn.Linear(cfg.hidden + cfg.deter, 3 * cfg.deter, bias=False)
        self.norm = nn.LayerNorm(3 * cfg.deter)
        self.expect = nn.Sequential(nn.Linear(cfg.deter, cfg.hidden), nn.ELU(), nn.Linear(cfg.hidden, 2 * cfg.stoch))
        self.seen = nn.Linear(embed, cfg.hidden, bias=False)
        self.join = nn.Linear(cfg.deter, cfg.hidden)
        self.believe = nn.Linear(cfg.hidden, 2 * cfg.stoch)

    def start(self, rows: int) -> Tensor:
        """The state before an episode, (B, D + Z)."""
        return self.into.weight.new_zeros(rows, self.width)

    def observe(self, embeds: Tensor, actions: Tensor, context: Tensor | None, noise: Tensor) -> Trace:
        """Go through sequences of observations.

        Args:
            embeds: Of T observations, (T, B, E).
            actions: Between them, (T-1, B, A); the one before the first counts as zero.
            context: (B, C), or None.
            noise: Standard normal, (T, B, Z).
        """
        before = torch.cat([torch.zeros_like(actions[:1]), actions])  # (T, B, A)
        if context is not None:
            before = torch.cat([before, context.expand(len(before), *context.shape)], -1)
        given, seen = self.given(before), self.seen(embeds)
        state = self.start(embeds.shape[1])
        deter, stoch = state.split([self.deter, self.stoch], -1)
        deters: list[Tensor] = []
        states: list[Tensor] = []
        beliefs: list[Gaussian] = []
        for step in range(len(embeds)):
            deter = self._advance(deter, stoch, given[step])
            belief = self._belief(deter, seen[step])
            stoch = belief.mean + belief.std * noise[step]
            deters.append(deter)
            beliefs.append(belief)
            states.append(torch.cat([deter, stoch], -1))
        prior = _gaussian(self.expect(torch.stack(deters)))
        posterior = Gaussian(torch.stack([b.mean for b in beliefs]), torch.stack([b.std for b in beliefs]))
        return Trace(torch.stack(states), prior, posterior)

    def correct(self, state: Tensor, action: Tensor, embed: Tensor, context: Tensor | None) -> Tensor:
        """The state after `action` and an observation, its latents at their mean, (B, D + Z)."""
        deter, stoch = state.split([self.deter, self.stoch], -1)
        deter = self._advance(deter, stoch, self.given(_with(action, context)))
        return torch.cat([deter, self._belief(deter, self.seen(embed)).mean], -1)

    def imagine(self, state: Tensor, action: Tensor, context: Tensor | None, noise: Tensor) -> Tensor:
        """The state expected after `action`, without an observation, (B, D + Z)."""
        deter, stoch = state.split([self.deter, self.stoch], -1)
        deter = self._advance(deter, stoch, self.given(_with(action, context)))
        prior = _gaussian(self.expect(deter))
        return torch.cat([deter, prior.mean + prior.std * noise], -1)

    def _advance(self, deter: Tensor, stoch: Tensor, given: Tensor) -> Tensor:
        x = F.elu(self.into(stoch) + given)
        reset, candidate, update = self.norm(self.cell(torch.cat([x, deter], -1))).chunk(3, -1)
        candidate = torch.tanh(torch.sigmoid(reset) * candidate)
        update = torch.sigmoid(update - 1.0)  # keeps most of the old state at first
        return torch.lerp(deter, candidate, update)

    def _belief(self, deter: Tensor, seen: Tensor) -> Gaussian:
        return _gaussian(self.believe(F.elu(self.join(deter) + seen)))


def balanced_kl(posterior: Gaussian, prior: Gaussian, *, balance: float, free: float) -> tuple[Tensor, Tensor]:
    """KL(q || p), trained towards the prior by `balance` and towards the posterior by the rest.

    Args:
        posterior: q, (..., Z).
        prior: p, (..., Z).
        balance: In [0, 1].
        free: Nats below which nothing is to be gained.

    Returns:
        Loss and divergence in nats, (...,) each.
    """
    fixed_q = Gaussian(posterior.mean.detach(), posterior.std.detach())
    fixed_p = Gaussian(prior.mean.detach(), prior.std.detach())
    to_prior, to_posterior = _kl(fixed_q, prior), _kl(posterior, fixed_p)
    loss = balance * to_prior.clamp_min(free) + (1 - balance) * to_posterior.clamp_min(free)
    return loss, to_prior.detach()


def _kl(q: Gaussian, p: Gaussian) -> Tensor:
    ratio = (q.std / p.std).square()
    gap = ((q.mean - p.mean) / p.std).square()
    return 0.5 * (ratio + gap - 1.0 - ratio.log()).sum(-1)


def _gaussian(moments: Tensor) -> Gaussian:
    mean, spread = moments.chunk(2, -1)
    return Gaussian(mean, 2.0 * torch.sigmoid(spread / 2.0) + MIN_STD)


def _with(action: Tensor, context: Tensor | None) -> Tensor:
    return action if context is None else torch.cat([action, context], -1)

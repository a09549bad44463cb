"""The latent world model: what is seen, what is expected next, what it is worth.

    L = E_t [ |o_t - dec(s_t)|^2 / 2 + (symlog r_t - rew(s_t))^2 / 2 + BCE(mask_t, go(s_t)) + KL_balanced(q_t || p_t) ]

s_t is the posterior state; r_t and mask_t belong to the transition that arrived at o_t. Observations are normalised,
rewards squashed (symlog of DreamerV3, arXiv 2301.04104), so that one weighting serves tasks of any reward scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robot_rl.data.sequences import Sequences
from robot_rl.latent.codec import elu_mlp, make_codec
from robot_rl.latent.rssm import RSSM, RSSMConfig, Trace, balanced_kl

Metrics = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class LatentModelConfig(RSSMConfig):
    """A latent world model; the defaults suit state vectors on a CPU."""

    embed: int = 128  # width of an observation's embedding
    layers: tuple[int, ...] = (256,)  # hidden layers of encoder, decoder and heads; the papers use 400 wide ones
    image_channels: int = 0  # observations are pictures of so many channels, 64 x 64, flat; 0 for state vectors
    model_lr: float = 3e-4  # learning rate
    kl_balance: float = 0.8  # share of the divergence's gradient that moves the prior
    free_nats: float = 1.0  # divergence that costs nothing
    kl_weight: float = 1.0  # of the divergence against reconstruction
    clip: float = 100.0  # largest gradient norm


class LatentModel(nn.Module):
    """Encoder, RSSM and heads.

    Args:
        cfg: Sizes and weights.
        observations: S.
        actions: A.
        tasks: Number of tasks that it tells apart by a one-hot context; 0 for one task.
    """

    def __init__(self, cfg: LatentModelConfig, observations: int, actions: int, tasks: int = 0) -> None:
        super().__init__()
        self.cfg, self.tasks = cfg, tasks
        self.rssm = RSSM(cfg, cfg.embed, actions, tasks)
        self.encoder, self.decoder = make_codec(
            observations, tasks, cfg.embed, self.rssm.width, hidden=cfg.layers, channels=cfg.image_channels
        )
        self.reward = elu_mlp(self.rssm.width, cfg.layers, 1)
        self.going_on = elu_mlp(self.rssm.width, cfg.layers, 1)

    @property
    def width(self) -> int:
        """Of the latent state."""
        return self.rssm.width

    def embed(self, obs: Tensor, context: Tensor | None) -> Tensor:
        """Embedding of normalised observations, (..., S) -> (..., E); `context` is (..., K)."""
        return self.encoder(obs if context is None else torch.cat([obs, context], -1))

    def observe(self, obs: Tensor, actions: Tensor, context: Tensor | None, generator: torch.Generator | None) -> Trace:
        """Go through sequences of observations; without a generator, latents are at their mean.

        Args:
            obs: Normalised, (T, B, S).
            actions: Between them, in [-1, 1], (T-1, B, A).
            context: Which task each sequence is of, (B, K); None for a model of one task.
            generator: Of the latents.
        """
        spread = None if context is None else context.expand(len(obs), *context.shape)
        shape = (*obs.shape[:2], self.rssm.stoch)
        noise = (
            torch.zeros(shape, device=obs.device)
            if generator is None
            else torch.randn(shape, generator=generator, device=obs.device)
        )
        return self.rssm.observe(self.embed(obs, spread), actions, context, noise)

    def correct(self, state: Tensor, action: Tensor, obs: Tensor, context: Tensor | None) -> Tensor:
        """The state after `action` and a normalised observation, without chance, (B, W)."""
        return self.rssm.correct(state, action, self.embed(obs, context), context)

    def loss(self, seen: Sequences, trace: Trace) -> tuple[Tensor, Metrics]:
        """The loss over sequences of normalised observations, with what it is made of."""
        cfg, valid = self.cfg, seen.valid
        here = torch.cat([torch.ones_like(valid[:1]), valid])  # (L+1, B): which observations there are
        rebuilt = 0.5 * (self.decoder(trace.state) - seen.obs).square().sum(-1)
        arrived = trace.state[1:]
        reward = 0.5 * (self.reward(arrived).squeeze(-1) - symlog(seen.reward)).square()
        ends = F.binary_cross_entropy_with_logits(self.going_on(arrived).squeeze(-1), seen.mask, reduction="none")
        divergence, nats = balanced_kl(trace.posterior, trace.prior, balance=cfg.kl_balance, free=cfg.free_nats)
        parts = {
            "model/observation": _mean(rebuilt, here),
            "model/reward": _mean(reward, valid),
            "model/ends": _mean(ends, valid),
            "model/divergence": _mean(divergence, here),
        }
        loss = sum(parts.values(), start=torch.zeros((), device=valid.device))
        loss = loss + (cfg.kl_weight - 1.0) * parts["model/divergence"]
        return loss, {name: value.detach() for name, value in parts.items()} | {"model/nats": _mean(nats, here)}


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """Inverse of `symlog`."""
    return x.sign() * x.abs().expm1()


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp_min(1.0)

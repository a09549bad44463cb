"""A state VAE with a latent transition (Macaluso, Sestini and Bagdanov 2023, arXiv 2312.09844).

    z ~ E(s) = N(mu, sigma^2),   s^' = D(T(z, a))
    L = MSE(D(z), s) + beta KL(E(s) || N(0, 1)) + 10 MSE(s^', s') + MSE(T(z, a), sg[z(s')])

with beta = 1 / (batches an epoch), ReLU throughout and z sampled in training and prediction alike. Rows
that end the task are left out of L, as in the authors' code; rows cut by a time limit stay, because the
next observation of ours is the real one.

Ours: two heads beside the published part, whose gradients never reach it. They judge a whole triple
(s, a, s'): the reward, and whether the task ends. Given the predicted s^', they speak about that state,
which is what makes an augmented transition consistent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from robot_rl.algorithms.agent import Metrics
from robot_rl.algorithms.steps import adam
from robot_rl.data.replay import Batch
from robot_rl.data.stats import ObservationStats
from robot_rl.nets.mlp import mlp
from robot_rl.spec import Spec
from robot_rl.world_models.model import Guess, Targets, WorldModel

LOG_VAR = (-10.0, 4.0)  # bounds of log sigma^2, where exp stays finite


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """State VAE with a latent transition; defaults are the authors'."""

    latent: int = 12  # width of z
    encoder_hidden: tuple[int, ...] = (500, 500, 500)  # widths of the encoder's hidden layers
    transition_hidden: tuple[int, ...] = (300, 600, 300)  # widths of the transition's hidden layers
    decoder_hidden: tuple[int, ...] = (500, 500, 500)  # widths of the decoder's hidden layers
    head_hidden: tuple[int, ...] = (128, 128)  # widths of the reward and termination heads
    kl_weight: float | None = None  # beta; default 1 / (batches an epoch), as published
    prediction_weight: float = 10.0  # of the error of the predicted state
    lr: float = 1e-4  # learning rate
    batch_size: int = 4096  # transitions per gradient step
    epochs: int = 300  # passes over the data, at most
    patience: int = 40  # epochs without a better held-out error before training stops


class VAEModel(WorldModel):
    """VAE-transition model with outcome heads."""

    def __init__(
        self,
        cfg: VAEConfig,
        spec: Spec,
        stats: ObservationStats,
        targets: Targets | None = None,
        *,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        super().__init__(spec, stats, targets, seed, device)
        self.cfg, self.options = cfg, cfg
        s, u, z = spec.obs_dim, self.inputs, cfg.latent
        self.encoder = mlp(s, cfg.encoder_hidden, 2 * z)
        self.transition = mlp(z + u, cfg.transition_hidden, z)
        self.decoder = mlp(z, cfg.decoder_hidden, s)
        self.heads = mlp(s + u + s, cfg.head_hidden, 2)
        self.to(self.device)
        self.optimiser = adam(self.parameters(), cfg.lr)

    @property
    def kl_weight(self) -> float:
        """Beta, as configured or as published."""
        return 1 / self.batches if self.options.kl_weight is None else self.options.kl_weight

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """The published loss and the heads' own, (B, ...)."""
        size = len(batch.obs)
        mean, log_var = self._encode(batch.obs)
        z = self._draw(mean, log_var, self.generator)
        with torch.no_grad():
            z_next = self._draw(*self._encode(batch.next_obs), self.generator)
        predicted = self.transition(torch.cat([z, batch.action], -1))
        rebuilt, next_obs = self.decoder(torch.cat([z, predicted])).split(size)  # one pass for both
        kept = batch.mask / size  # rows that end the task weigh nothing
        rebuild = kept @ (rebuilt - batch.obs).square().mean(-1)
        kl = kept @ (0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(-1))
        ahead = kept @ (next_obs - batch.next_obs).square().mean(-1)
        latent = kept @ (predicted - z_next).square().mean(-1)
        reward, ended = self._judge(batch.obs, batch.action, batch.next_obs)
        reward_loss = F.mse_loss(reward, batch.reward)
        ended_loss = F.binary_cross_entropy_with_logits(ended, 1 - batch.mask)
        published = rebuild + self.kl_weight * kl + self.options.prediction_weight * ahead + latent
        metrics = {
            "train/next_state": ahead,
            "train/rebuild": rebuild,
            "train/kl": kl,
            "train/reward": reward_loss,
            "train/termination": ended_loss,
        }
        return published + reward_loss + ended_loss, {k: v.detach() for k, v in metrics.items()}

    @torch.no_grad()
    def errors(self, batch: Batch) -> Tensor:
        """Mean squared errors of predicted state and reward, with z at its mean, (1,)."""
        z, _ = self._encode(batch.obs)
        next_obs = self.decoder(self.transition(torch.cat([z, batch.action], -1)))
        reward, _ = self._judge(batch.obs, batch.action, batch.next_obs)
        kept = batch.mask / batch.mask.sum().clamp_min(1.0)
        ahead = kept @ (next_obs - batch.next_obs).square().mean(-1)
        return (ahead + F.mse_loss(reward, batch.reward) / batch.obs.shape[-1])[None]

    def guess(self, obs: Tensor, action: Tensor, generator: torch.Generator) -> Guess:
        """One draw of z; the spread is how badly z gives back the state it encodes."""
        z = self._draw(*self._encode(obs), generator)
        predicted = self.transition(torch.cat([z, action], -1))
        rebuilt, next_obs = self.decoder(torch.cat([z, predicted])).split(len(obs))
        reward, ended = self._judge(obs, action, next_obs)
        spread = (rebuilt - obs).square().mean(-1, keepdim=True).sqrt().expand_as(obs)
        return Guess(next_obs, reward, ended.sigmoid(), spread)

    def _encode(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = self.encoder(obs).chunk(2, -1)
        return mean, log_var.clamp(*LOG_VAR)

    def _draw(self, mean: Tensor, log_var: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        return mean + (0.5 * log_var).exp() * noise

    def _judge(self, obs: Tensor, action: Tensor, next_obs: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised reward and termination logit of a triple, (B,) each."""
        reward, ended = self.heads(torch.cat([obs, action, next_obs], -1)).unbind(-1)
        return reward, ended

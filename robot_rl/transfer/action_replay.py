"""Action replay: what was done in a source task where things looked like this (Vid2Act, arXiv 2306.03360).

    q(z | D f_k, a, k) = N(mu, sigma)        z: 8 numbers
    a^ = tanh(Linear(g)),  g = penultimate layer of the decoder of (z, D f_k, k)
    L  = |a - a^|^2 + 0.5 KL(q || N(0, 1))   means over the batch and the entries

trained on the sources' own steps. For the target, g of the most similar source enters the actor beside its state,
and the actor alone: a critic that saw it would be taught by what the source did, not by what the target pays.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robot_rl.nets.mlp import mlp

GUIDE = 50  # width of the penultimate layer
CLIP = 0.5  # of z when it is drawn for the actor
LARGEST = 1.5  # of a proposal before tanh: 0.9 of full scale, which an actor can still move away from


class ActionReplay(nn.Module):
    """Conditional VAE of the sources' actions.

    Args:
        states: Width of a projected state D f_k.
        actions: A.
        sources: K.
        hidden: Hidden layers of encoder and decoder.
        latent: Width of z.
    """

    def __init__(self, states: int, actions: int, sources: int, hidden: Sequence[int], latent: int) -> None:
        super().__init__()
        self.sources, self.latent = sources, latent
        self.encoder = mlp(states + sources + actions, hidden, 2 * latent)
        self.decoder = mlp(latent + states + sources, hidden, GUIDE)
        self.act = nn.Linear(GUIDE, actions)

    def loss(self, state: Tensor, source: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        """The loss over a batch of the sources' steps.

        Args:
            state: Projected states, (B, F).
            source: Their number, (B,) int64.
            action: What was done there, in [-1, 1], (B, A).
            generator: Of z.
        """
        given = torch.cat([state, F.one_hot(source, self.sources).to(state.dtype)], -1)
        mean, spread = self.encoder(torch.cat([given, action], -1)).chunk(2, -1)
        log_var = spread.clamp(-8.0, 8.0)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        z = mean + (0.5 * log_var).exp() * noise
        rebuilt = torch.tanh(self.act(F.relu(self.decoder(torch.cat([z, given], -1)))))
        divergence = -0.5 * (1.0 + log_var - mean.square() - log_var.exp()).mean()
        return F.mse_loss(rebuilt, action) + 0.5 * divergence

    def proposal(self, guide: Tensor) -> Tensor:
        """The action that g stands for, before tanh and kept from saturating, (..., 50) -> (..., A)."""
        return self.act(guide).clamp(-LARGEST, LARGEST)

    def guide(self, state: Tensor, source: Tensor, z: Tensor) -> Tensor:
        """g, (..., F), (..., K) one-hot, (..., Z) -> (..., 50)."""
        return F.relu(self.decoder(torch.cat([z, state, source], -1)))

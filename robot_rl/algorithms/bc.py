"""Behaviour cloning: regress the logged action on the logged observation.

    L(pi) = E_D |pi(s) - a|^2        (deterministic actor, tanh output)

Ours: dropout and weight decay as options, since 20 demonstrations are soon memorised.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn import functional as F

from robot_rl.algorithms.agent import Agent, Metrics
from robot_rl.algorithms.steps import adam, descend
from robot_rl.data.replay import Batch
from robot_rl.data.stats import ObservationStats
from robot_rl.nets.actor import DeterministicActor
from robot_rl.spec import Spec


@dataclass(frozen=True, kw_only=True)
class BCConfig:
    """Behaviour cloning."""

    hidden: tuple[int, ...] = (256, 256)  # widths of the actor's hidden layers
    lr: float = 3e-4  # learning rate
    batch_size: int = 256  # transitions per gradient step
    weight_decay: float = 0.0  # L2 penalty on the actor
    dropout: float = 0.0  # share of hidden units silenced in training, in [0, 1)
    ema: float = 0.0  # share kept in the average of actors that acts in the actor's place, such as 0.999; 0 is off
    exploration: float = 0.1  # std of the noise on actions taken online, of their half range


class BC(Agent):
    """Behaviour cloning."""

    def __init__(
        self, cfg: BCConfig, spec: Spec, stats: ObservationStats, *, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(spec, stats, seed, device)
        self.cfg = cfg
        self.actor = DeterministicActor(
            spec.obs_dim, spec.action_dim, cfg.hidden, dropout=cfg.dropout, exploration=cfg.exploration
        )
        self.average_actor(cfg.ema)
        self.to(self.device)
        self.optimisers["actor"] = adam(self.actor.parameters(), cfg.lr, cfg.weight_decay)

    def learn(self, batch: Batch) -> Metrics:
        """One regression step."""
        loss = F.mse_loss(self.actor(batch.obs), batch.action)
        descend(self.optimisers["actor"], loss)
        return {"actor/loss": loss.detach(), "actor/error": loss.detach().sqrt()}

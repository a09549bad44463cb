"""SAC on the state of a latent world model: the cheaper of the two ways to act on one.

    s_t = posterior state [h_t, z_t] (and o_t beside it)      g_t = the most similar source's guide
    y        = r + gamma m [min Q'(s', a') - alpha log pi(a'|s', g')],   a' ~ pi(s', g')
    L(Q)     = E (Q_i(s, a) - y)^2
    L(pi)    = E [alpha log pi(a~|s, g) - mean_i Q_i(s, a~)]

on the real transitions of the sequences that the model was just trained on, with states as they were before that step;
one step for each `batch_size` of them. More sequences are the cheap way to more steps: a model's step costs mostly its
length, not its width.
Nothing is imagined, which is where a recurrent world model spends nine tenths of its time on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from robot_rl.algorithms.agent import Metrics
from robot_rl.algorithms.sac import SAC, SACConfig
from robot_rl.algorithms.student import Student, StudentConfig
from robot_rl.data.replay import Batch
from robot_rl.data.sequences import Sequences
from robot_rl.data.stats import ObservationStats
from robot_rl.errors import ConfigError
from robot_rl.nets.actor import SquashedGaussianActor
from robot_rl.spec import Spec, vector


@dataclass(frozen=True, kw_only=True)
class LatentSACConfig(StudentConfig, SACConfig):
    """SAC on a latent state."""

    batch_size: int = 256  # transitions per step of actor and critics; as many steps as the sequences hold
    critics: int = 2  # ensemble size N
    backup_entropy: bool = True  # count the next action's entropy as reward
    direct: bool = True  # actor and critics see the observation beside the latent state

    def __post_init__(self) -> None:
        StudentConfig.__post_init__(self)
        SACConfig.__post_init__(self)
        if self.ema:
            raise ConfigError(
                f"--agent.ema is {self.ema:g}, but latent-sac keeps no average of actors: the memory that one acts on "
                f"changes as its world model learns. Leave it at 0."
            )


class LatentSAC(Student):
    """SAC on a latent state."""

    cfg: LatentSACConfig

    def __init__(
        self, cfg: LatentSACConfig, spec: Spec, stats: ObservationStats, *, seed: int = 0, device: str = "cpu"
    ) -> None:
        super().__init__(cfg, spec, stats, direct=cfg.direct, seed=seed, device=device)
        width = self.shown_dim
        shown = replace(spec, observation=(vector("shown", width),))
        unit = ObservationStats(np.zeros(width, np.float32), np.ones(width, np.float32))
        guided = 0 if self.guide is None else self.guide.width
        residual = guided > 0 and cfg.transfer.residual
        self.sac = SAC(cfg, shown, unit, device=device, critics_see=width - guided, residual=residual)
        self.sac.generator = self.generator
        self.optimisers |= self.sac.optimisers

    def improve(self, seen: Sequences, states: Tensor, theirs: Tensor | None) -> Metrics:
        """Steps of SAC on the sequences' transitions, each of them once."""
        with torch.no_grad():
            shown = self.shown(states, seen.obs, theirs)
        rows = Batch(
            obs=shown[:-1].flatten(0, 1),
            action=seen.action.flatten(0, 1),
            reward=self.cfg.reward_scale * seen.reward.flatten(),
            mask=seen.mask.flatten(),
            next_obs=shown[1:].flatten(0, 1),
            real=torch.ones_like(seen.mask.flatten()),
        )
        there = torch.nonzero(seen.valid.flatten() > 0).squeeze(1)
        order = there[torch.randperm(len(there), generator=self.generator, device=self.device)]
        whole = max(1, len(order) // self.cfg.batch_size)  # pieces at an episode's end leave a rest
        hold = 1.0 if self.guide is None else self.guide.trials.hold
        self.sac.cfg = replace(self.cfg, bc_weight=self.cfg.bc_weight * hold)
        self.sac.updates, self.sac.actor_frozen = self.updates, self.actor_frozen
        metrics: Metrics = {}
        for number in range(whole):
            part = order[number * self.cfg.batch_size : (number + 1) * self.cfg.batch_size]
            metrics = self.sac.learn(Batch(*(column[part] for column in rows)))
        if self.cfg.transfer.trials:
            metrics["transfer/hold"] = torch.tensor(hold)
        return metrics

    @property
    def _acting_net(self) -> SquashedGaussianActor:
        return self.sac.actor

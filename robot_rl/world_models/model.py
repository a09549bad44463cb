"""What every world model is: transitions in, predicted transitions with their expected error out.

Augmentation and learners see `WorldModel.step` alone. It speaks the robot's units; inside, observations
are normalised with the frozen statistics of the data, actions lie in [-1, 1] (an index becomes one-hot)
and rewards are standardised.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robot_rl.algorithms.agent import Metrics
from robot_rl.data.replay import Batch
from robot_rl.data.stats import ObservationStats
from robot_rl.nets.actor import Scaler
from robot_rl.spec import Spec
from robot_rl.world_models.holdout import Holdout

QUANTILES = 101  # of the held-out uncertainty: 0 %, 1 %, ... 100 %


class Prediction(NamedTuple):
    """What a model expects of B transitions, in the robot's units.

    Args:
        next_obs: A draw of the next observation, (B, S).
        reward: Expected reward, (B,).
        terminated: Probability that the task ends with this step, (B,).
        uncertainty: Expected root mean square error of `next_obs` over its dimensions, each in standard
            deviations of the observations, (B,). Calibrated on held-out episodes.
    """

    next_obs: Tensor
    reward: Tensor
    terminated: Tensor
    uncertainty: Tensor


class Guess(NamedTuple):
    """A model's own words: normalised next observation and reward, and an uncalibrated spread.

    Args:
        next_obs: (B, S), normalised.
        reward: (B,), standardised.
        terminated: (B,), probability.
        spread: (B, S), grows with the error; normalised units.
    """

    next_obs: Tensor
    reward: Tensor
    terminated: Tensor
    spread: Tensor


class ModelConfig(Protocol):
    """What training needs to know of a model's config."""

    @property
    def batch_size(self) -> int:
        """Transitions per gradient step."""
        ...

    @property
    def epochs(self) -> int:
        """Passes over the data, at most."""
        ...

    @property
    def patience(self) -> int:
        """Epochs without a better held-out error before training stops."""
        ...


@dataclass(frozen=True)
class Targets:
    """Scales of what is predicted, taken once from the training transitions.

    Args:
        change: Standard deviation of normalised s' - s, (S,).
        reward_mean: Of the rewards.
        reward_std: Of the rewards.
    """

    change: Tensor
    reward_mean: Tensor
    reward_std: Tensor

    @staticmethod
    def of(rows: Batch, stats: ObservationStats) -> Targets:
        """Scales of `rows`; a constant is scaled by 1."""
        change = ((rows.next_obs - rows.obs) / torch.from_numpy(stats.std).to(rows.obs.device)).std(0)
        return Targets(_scale(change), rows.reward.mean(), _scale(rows.reward.std()))


class WorldModel(nn.Module, ABC):
    """Base of the models.

    A subclass creates its networks and `self.optimiser`, and implements `loss`, `errors` and `guess` on
    normalised batches. Training draws from `self.generator` alone.

    Args:
        spec: Widths, bounds and meaning.
        stats: Frozen observation statistics.
        targets: Scales of changes and rewards; None for a model that is about to be loaded.
        seed: Of the model's own generator.
        device: "cpu" or "cuda".
    """

    change: Tensor
    reward_mean: Tensor
    reward_std: Tensor
    error_rms: Tensor
    error_floor: Tensor
    error_slope: Tensor
    levels: Tensor

    cfg: ModelConfig
    members = 1  # networks that are trained side by side; their parameters lead with this dimension
    batches = 1  # an epoch
    held_out_error = float("nan")
    holdout = Holdout()  # what it is trained without
    optimiser: torch.optim.Optimizer

    def __init__(self, spec: Spec, stats: ObservationStats, targets: Targets | None, seed: int, device: str) -> None:
        super().__init__()
        self.spec = spec
        self.stats = stats
        self.device = torch.device(device)
        self.scaler = Scaler(spec, stats)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        s, one = spec.obs_dim, torch.ones(())
        self.register_buffer("change", torch.ones(s) if targets is None else targets.change.clone())
        self.register_buffer("reward_mean", 0 * one if targets is None else targets.reward_mean.clone())
        self.register_buffer("reward_std", one.clone() if targets is None else targets.reward_std.clone())
        self.register_buffer("error_rms", torch.ones(s))  # of one step on held-out data, robot's units
        self.register_buffer("error_floor", torch.ones(s))  # squared error = floor + slope * spread^2, normalised
        self.register_buffer("error_slope", torch.zeros(s))
        self.register_buffer("levels", torch.zeros(QUANTILES))  # quantiles of the uncertainty on held-out data

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """Training loss of a normalised batch, (B, ...) or (members, B, ...)."""

    @abstractmethod
    def errors(self, batch: Batch) -> Tensor:
        """Held-out error of each member on a normalised batch, (members,): what early stopping watches."""

    def plan(self, batches: int) -> None:
        """Told the number of batches an epoch before training."""
        self.batches = batches

    def settle(self, errors: Tensor) -> None:
        """Told the best held-out error of each member, (members,), after training."""
        self.held_out_error = float(errors.mean())

    @abstractmethod
    def guess(self, obs: Tensor, action: Tensor, generator: torch.Generator) -> Guess:
        """Predict from a normalised observation (B, S) and an encoded action (B, U)."""

    @torch.no_grad()
    def step(self, obs: Tensor, action: Tensor, generator: torch.Generator) -> Prediction:
        """Predict B transitions in the robot's units.

        Args:
            obs: (B, S).
            action: (B, A), executable.
            generator: Source of the draws.
        """
        found = self.guess(self.scaler.obs(obs), self.encode(action), generator)
        scaler = self.scaler
        return Prediction(
            next_obs=scaler.mean + scaler.std * found.next_obs,
            reward=self.reward_mean + self.reward_std * found.reward,
            terminated=found.terminated,
            uncertainty=(self.error_floor + self.error_slope * found.spread.square()).mean(-1).sqrt(),
        )

    def normalised(self, rows: Batch) -> Batch:
        """`rows` in the model's units."""
        return Batch(
            obs=self.scaler.obs(rows.obs),
            action=self.encode(rows.action),
            reward=(rows.reward - self.reward_mean) / self.reward_std,
            mask=rows.mask,
            next_obs=self.scaler.obs(rows.next_obs),
            real=rows.real,
        )

    def encode(self, action: Tensor) -> Tensor:
        """Executable action (B, A) -> the model's input (B, U): [-1, 1], or one-hot where it is an index."""
        if self.spec.control != "discrete":
            return self.scaler.to_unit(action)
        low = int(self.spec.action_low[0])
        return F.one_hot((action[:, 0].round() - low).long(), self.inputs).to(torch.float32)

    @property
    def inputs(self) -> int:
        """Width U of an encoded action."""
        spec = self.spec
        if spec.control != "discrete":
            return spec.action_dim
        return int(spec.action_high[0] - spec.action_low[0]) + 1

    def gate(self, quantile: float) -> Tensor:
        """The uncertainty that this share of held-out transitions stays below, ()."""
        return self.levels[round(quantile * (QUANTILES - 1))]

    @property
    def digest(self) -> bytes:
        """SHA-256 over all weights and buffers."""
        total = hashlib.sha256()
        for name, value in self.state_dict().items():
            total.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return total.digest()


def _scale(std: Tensor) -> Tensor:
    return torch.where(std > 1e-6, std, torch.ones_like(std))

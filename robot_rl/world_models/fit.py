"""Training a world model: epochs over the data, early stopping on held-out episodes, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from robot_rl.algorithms.agent import Metrics
from robot_rl.data.episode import Episode
from robot_rl.data.replay import Batch, Replay
from robot_rl.device import fast_products, restore_generator
from robot_rl.world_models.model import QUANTILES, WorldModel

IMPROVEMENT = 0.001  # a held-out error counts as better from this share on
MICRO_BATCH = 512  # rows a pass: activations stay in the cache, the gradient is the batch's


class Fitter:
    """Trains `model` epoch by epoch; its state can be saved after each.

    Args:
        model: What is trained, in place.
        training: Transitions to learn from, in the robot's units.
        held_out: Transitions to stop early by and to calibrate on.
        batch_size: Transitions per gradient step.
        patience: Epochs without a better held-out error of any member after which training is over.
    """

    def __init__(self, model: WorldModel, training: Batch, held_out: Batch, *, batch_size: int, patience: int) -> None:
        self.model = model
        self.training = model.normalised(training)
        self.held_out_rows = held_out
        self.held_out = model.normalised(held_out)
        self.batch_size = batch_size
        self.patience = patience
        self.epochs = 0
        self.stale = 0
        self.errors = torch.full((model.members,), torch.inf, device=model.device)
        self.best = {k: v.detach().clone() for k, v in model.named_parameters()}
        model.plan(-(-len(training.obs) // batch_size))

    @property
    def finished(self) -> bool:
        """Whether the held-out error has stopped falling."""
        return self.stale >= self.patience

    def epoch(self) -> Metrics:
        """One pass over the training transitions; metrics of its last batch and the held-out error."""
        model, count = self.model, len(self.training.obs)
        shape = (model.members, count) if model.members > 1 else (count,)
        order = torch.rand(shape, generator=model.generator, device=model.device).argsort(-1)
        metrics: Metrics = {}
        with fast_products(model.device):
            for index in order.split(self.batch_size, dim=-1):
                metrics = self._descend(index)
            errors = model.errors(self.held_out)
        better = errors < self.errors * (1 - IMPROVEMENT)
        self.stale = 0 if bool(better.any()) else self.stale + 1
        self.errors = torch.where(better, errors, self.errors)
        self._keep(better)
        self.epochs += 1
        return metrics | {"held_out/error": errors.mean(), "held_out/best": self.errors.mean()}

    def finish(self) -> None:
        """Take the best weights and calibrate on the first half of the held-out transitions."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(self.best[name])
        self.model.settle(self.errors)
        calibrate(self.model, halves(self.held_out_rows)[0])

    def state(self) -> dict[str, Tensor]:
        """Everything beside the model's own weights, as named tensors."""
        state = {
            "fit.epochs": torch.tensor(self.epochs),
            "fit.stale": torch.tensor(self.stale),
            "fit.errors": self.errors,
            "fit.generator": self.model.generator.get_state(),
        }
        state |= {f"best.{name}": value for name, value in self.best.items()}
        for index, slots in self.model.optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{index}.{slot}": value for slot, value in slots.items()}
        return state

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state`."""
        self.epochs, self.stale = int(state["fit.epochs"]), int(state["fit.stale"])
        self.errors = state["fit.errors"].to(self.model.device)
        restore_generator(self.model.generator, state["fit.generator"])
        self.best = {name: state[f"best.{name}"].to(self.model.device) for name in self.best}
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            if key.startswith("optimiser."):
                _, index, slot = key.split(".")
                slots.setdefault(int(index), {})[slot] = value
        groups = self.model.optimiser.state_dict()["param_groups"]
        self.model.optimiser.load_state_dict({"state": slots, "param_groups": groups})

    def _descend(self, index: Tensor) -> Metrics:
        """One gradient step on the rows of `index`, (B,) or (members, B), in passes of MICRO_BATCH."""
        size = index.shape[-1]
        self.model.optimiser.zero_grad(set_to_none=True)
        metrics: Metrics = {}
        for piece in index.split(MICRO_BATCH, dim=-1):
            loss, metrics = self.model.loss(Batch(*(column[piece] for column in self.training)))
            (loss * (piece.shape[-1] / size)).backward()
        self.model.optimiser.step()
        return metrics

    @torch.no_grad()
    def _keep(self, better: Tensor) -> None:
        for name, parameter in self.model.named_parameters():
            if self.model.members == 1:
                if bool(better.any()):
                    self.best[name].copy_(parameter)
            else:
                self.best[name][better] = parameter[better]


def refit(model: WorldModel, episodes: Sequence[Episode], *, epochs: int = 20) -> float:
    """Go on training `model` on all data seen so far: what an online run calls every N steps.

    Statistics and scales stay frozen; optimiser, early stopping, elites and calibration start anew. Episodes that
    the model was trained without stay held out.

    Args:
        model: Trained before; changed in place.
        episodes: Old and new data, such as `[*offline.episodes(), *online.episodes()]`.
        epochs: Passes over the data, at most.

    Returns:
        The held-out error after.

    Raises:
        DataError: If there are fewer than two episodes.
    """
    training, held_out = model.holdout.split(episodes)
    rows = [Replay.of(model.spec, part, str(model.device)).transitions() for part in (training, held_out)]
    cfg = model.cfg
    model.optimiser.state.clear()
    fitter = Fitter(model, rows[0], rows[1], batch_size=cfg.batch_size, patience=cfg.patience)
    fitter.errors = model.errors(fitter.held_out)
    for _ in range(epochs):
        if fitter.finished:
            break
        fitter.epoch()
    fitter.finish()
    return model.held_out_error


def halves(rows: Batch) -> tuple[Batch, Batch]:
    """The first half of `rows` (to calibrate on) and the second (to report on)."""
    middle = -(-len(rows.obs) // 2)
    if middle == len(rows.obs):  # a single transition serves both
        return rows, rows
    return Batch(*(c[:middle] for c in rows)), Batch(*(c[middle:] for c in rows))


@torch.no_grad()
def calibrate(model: WorldModel, rows: Batch) -> None:
    """Fit squared error = floor + slope * spread^2 for each dimension of `rows`, and its quantiles."""
    draws = torch.Generator(model.device).manual_seed(0)
    unit = model.normalised(rows)
    found = model.guess(unit.obs, unit.action, draws)
    alive = unit.mask > 0 if bool((unit.mask > 0).any()) else torch.ones_like(unit.mask, dtype=torch.bool)
    squared = (found.next_obs - unit.next_obs)[alive].square()  # (B, S)
    floor, slope = line(found.spread[alive].square(), squared)
    model.error_floor.copy_(floor)
    model.error_slope.copy_(slope)
    model.error_rms.copy_(squared.mean(0).sqrt() * model.scaler.std)
    uncertainty = model.step(rows.obs, rows.action, draws).uncertainty
    model.levels.copy_(uncertainty.quantile(torch.linspace(0, 1, QUANTILES, device=model.device)))


def line(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares y = floor + slope x for each column of (B, S), both at least 0, mean of y kept."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    variance = (x - mean_x).square().mean(0)
    slope = ((x - mean_x) * (y - mean_y)).mean(0) / variance.clamp_min(1e-20)
    slope = torch.where(variance > 1e-20, slope.clamp_min(0.0), torch.zeros_like(slope))
    through_origin = mean_y / mean_x.clamp_min(1e-20)
    slope = torch.where(slope * mean_x > mean_y, through_origin, slope)
    return (mean_y - slope * mean_x).clamp_min(0.0), slope
